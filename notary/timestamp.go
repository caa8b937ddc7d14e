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

// Authority is a time-stamping authority that speaks RFC 3161 over HTTP.
type Authority struct {
	URL   string
	Roots *x509.CertPool // what its certificate must lead to
	// Every is how often a checkpoint is stamped; 0 is DefaultStampEvery.
	Every time.Duration
}

// DefaultStampEvery is often enough for most, and little for a public authority.
const DefaultStampEvery = 10 * time.Minute

// stampName is under what a stamp is stored beside the witnesses' words.
const stampName = "rfc3161"

// stamp has the newest checkpoint stamped when the last stamp is old enough, beside the rounds.
func (n *Notary) stamp() {
	a := n.c.Authority
	if a == nil {
		return
	}
	every := a.Every
	if every == 0 {
		every = DefaultStampEvery
	}
	s := &n.asking
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
			n.c.Logger.Warn("notary: the authority gave no time-stamp", "authority", a.URL, "size", size, "error", err)
			s.stamped = time.Now().Add(-every + min(every, time.Minute)) // again in a minute
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

// request gets a token for a text that verifies, and answers this request.
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
		return nil, fmt.Errorf("it answered %s", resp.Status)
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
		return nil, errors.New("it answered another request")
	}
	return token, nil
}
