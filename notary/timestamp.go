package notary

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
)

// Authority is a time-stamping authority (RFC 3161 over HTTP).
type Authority struct {
	URL   string
	Roots *x509.CertPool // roots of its certificate chain
	// Every is the interval between time-stamps; 0 is DefaultStampEvery.
	Every time.Duration
}

// DefaultStampEvery suits most, and is a light load for a public authority.
const DefaultStampEvery = 10 * time.Minute

// stampName is the name under which a time-stamp is stored in audit_witnesses.
const stampName = "rfc3161"

// stamp time-stamps the newest checkpoint in the background when the last time-stamp is old enough.
func (n *Notary) stamp() {
	a := n.c.Authority
	if a == nil {
		return
	}
	every := a.Every
	if every == 0 {
		every = DefaultStampEvery
	}
	s := &n.witnesses
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stamping || time.Since(s.stamped) < every {
		return
	}
	s.stamping = true
	size := n.stored
	s.Go(func() {
		err := n.stampOne(a, size)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stamping = false
		if err != nil {
			n.c.Logger.Warn("notary: no time-stamp from the authority", "authority", a.URL, "size", size, "error", err)
			s.stamped = time.Now().Add(-every + min(every, time.Minute)) // retry in a minute
			return
		}
		s.stamped = time.Now()
	})
}

func (n *Notary) stampOne(a *Authority, size int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), witnessLimit)
	defer cancel()
	var c ledger.Checkpoint
	if err := n.c.DB.Snapshot(ctx, func(tx pgx.Tx) (err error) {
		super, err := logstore.OpenSuperLog(ctx, tx, size)
		if err == nil {
			c, err = logstore.OpenWithAnyKey(ctx, tx, super.Signed, n.signer.Name)
		}
		return err
	}); err != nil {
		return err
	}
	token, err := a.request(ctx, c.Text())
	if err != nil {
		return err
	}
	l, err := n.c.DB.Unleased(ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	return l.Tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			`INSERT INTO audit_witnesses (tenant_id, size, name, kind, said) VALUES ($1, $2, $3, 'timestamp', $4)
			ON CONFLICT DO NOTHING`, logstore.Operator, size, stampName, token)
		return err
	})
}

// request gets a time-stamp token for a text, and verifies it and its nonce.
func (a *Authority) request(ctx context.Context, text string) ([]byte, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, err
	}
	request, err := ledger.TimestampRequest(text, nonce)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it responded %s", resp.Status)
	}
	token, err := ledger.TimestampToken(answer)
	if err != nil {
		return nil, err
	}
	t, err := ledger.VerifyTimestamp(token, text, a.Roots)
	if err != nil {
		return nil, err
	}
	if t.Nonce == nil || t.Nonce.Cmp(nonce) != 0 {
		return nil, errors.New("its nonce is not the request's")
	}
	return token, nil
}
