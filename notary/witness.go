package notary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// Witness is an endpoint of the C2SP tlog-witness protocol. It sees only the super-log's checkpoints: neither the
// tenants nor the number of events.
type Witness struct {
	URL      string // prefix of /add-checkpoint
	Verifier note.Verifier
}

// NewWitness parses a witness from the configuration: its key in signed-note form, a space, its URL.
func NewWitness(line string) (Witness, error) {
	key, url, ok := strings.Cut(strings.TrimSpace(line), " ")
	url = strings.TrimSuffix(strings.TrimSpace(url), "/")
	if !ok || !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") {
		return Witness{}, fmt.Errorf("a witness is its key, a space, and its URL: %.120q is not", line)
	}
	v, err := ledger.ParseWitness(key)
	return Witness{url, v}, err
}

const (
	// witnessLimit is the timeout of a request to a witness; rounds don't wait for it.
	witnessLimit = 10 * time.Second
	// maxAnswer is the largest response of a witness, in bytes.
	maxAnswer = 64 << 10
)

// witnessState is the state of the requests to witnesses and the authority, one at a time each, beside the rounds.
type witnessState struct {
	sync.WaitGroup
	mu sync.Mutex
	// by witness, while a request is in progress: the size to request next
	next     map[string]int64
	cosigned map[string]int64 // by witness: the size that it cosigned last
	fork     error            // set when a witness has cosigned a larger super-log than this one
	stamped  time.Time        // when the last time-stamp was stored
	stamping bool
}

// cosignHead requests cosignatures of the newest checkpoint in the background. A slow witness skips the checkpoints in
// between.
func (n *Notary) cosignHead() {
	a := &n.witnesses
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next, a.cosigned = map[string]int64{}, map[string]int64{}
	}
	for _, w := range n.c.Witnesses {
		name := w.Verifier.Name()
		_, busy := a.next[name]
		a.next[name] = n.stored
		if !busy {
			a.Go(func() { n.cosignUntilCurrent(w, name) })
		}
	}
}

// cosignFirst requests cosignatures of the last signed checkpoint before the next is signed: a witness that has
// cosigned a larger one proves that the database was rolled back. It logs a witness that fails, and continues.
func (n *Notary) cosignFirst(ctx context.Context) error {
	if n.anchored == "" || len(n.c.Witnesses) == 0 {
		return nil
	}
	var stored int64
	if err := n.c.DB.Snapshot(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce(max(size), 0) FROM audit_checkpoints WHERE tenant_id = $1`,
			logstore.Operator).
			Scan(&stored)
	}); err != nil || stored == 0 {
		return err
	}
	var group sync.WaitGroup
	failed := make([]error, len(n.c.Witnesses))
	for i, w := range n.c.Witnesses {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, witnessLimit)
			defer cancel()
			failed[i] = n.cosign(ctx, w, stored)
		})
	}
	group.Wait()
	for i, err := range failed {
		if errors.Is(err, logstore.ErrRefused) {
			return err
		} else if err != nil {
			n.c.Logger.Warn("notary: a witness did not cosign", "witness", n.c.Witnesses[i].Verifier.Name(), "size",
				stored, "error", err)
		}
	}
	return nil
}

// cosignUntilCurrent sends requests to one witness until it has the newest checkpoint.
func (n *Notary) cosignUntilCurrent(w Witness, name string) {
	a := &n.witnesses
	for {
		a.mu.Lock()
		size := a.next[name]
		a.next[name] = 0
		if size == 0 {
			delete(a.next, name)
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), witnessLimit)
		err := n.cosign(ctx, w, size)
		cancel()
		a.mu.Lock()
		if err == nil {
			a.cosigned[name] = size
		} else if errors.Is(err, logstore.ErrRefused) {
			a.fork = err
		}
		agree := int64(0)
		for _, at := range a.cosigned {
			if at == size {
				agree++
			}
		}
		a.mu.Unlock()
		if err != nil {
			n.c.Logger.Warn("notary: a witness did not cosign", "witness", name, "size", size, "error", err)
			continue
		}
		n.metrics.witnesses.Store(agree)
		n.metrics.witnessed.Store(size)
	}
}

// cosign requests one witness's cosignature and stores it.
func (n *Notary) cosign(ctx context.Context, w Witness, size int64) error {
	var old int64
	var super *logstore.SuperLog
	body := func(old int64) (raw []byte, err error) {
		err = n.c.DB.Snapshot(ctx, func(tx pgx.Tx) error {
			if super, err = logstore.OpenSuperLog(ctx, tx, size); err != nil {
				return err
			}
			raw, err = request(old, size, super.Hashes, super.Signed)
			return err
		})
		return raw, err
	}
	if err := n.c.DB.Snapshot(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce(max(size), 0) FROM audit_witnesses WHERE tenant_id = $1
			AND kind = 'cosignature' AND name = $2 AND size <= $3`, logstore.Operator, w.Verifier.Name(),
			size).Scan(&old)
	}); err != nil {
		return err
	}
	for try := range 2 {
		raw, err := body(old)
		if err != nil {
			return err
		}
		lines, at, err := w.post(ctx, raw)
		if err != nil {
			return err
		}
		switch {
		case lines != nil:
			return w.storeCosignature(ctx, n.c.DB, size, super.Signed, lines)
		case at > size:
			return fmt.Errorf("%w: witness %s has cosigned the super-log at size %d, and here it has %d: this "+
				"database was rolled back, or another notary signs with our key", logstore.ErrRefused,
				w.Verifier.Name(), at, size)
		case try == 1 || at == old:
			return fmt.Errorf("it has size %d, and rejected the proof from there", at)
		}
		old = at
	}
	return nil
}

// post sends an add-checkpoint request. It returns signature lines, or on a conflict the size that the witness has.
func (w Witness) post(ctx context.Context, body []byte) (lines []byte, at int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return answer, 0, nil
	case http.StatusConflict:
		at, err := strconv.ParseInt(strings.TrimSpace(string(answer)), 10, 64)
		if err != nil || at < 0 {
			return nil, 0, fmt.Errorf("it responded %s without its size", resp.Status)
		}
		return nil, at, nil
	}
	return nil, 0, fmt.Errorf("it responded %s: %.200q", resp.Status, answer)
}

// request builds an add-checkpoint request: from the old size to that of the signed checkpoint, with the consistency
// proof.
func request(old, size int64, tree tlog.HashReader, signed string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", old)
	if old > 0 && old < size {
		p, err := tlog.ProveTree(size, old, tree)
		if err != nil {
			return nil, err
		}
		for _, h := range p {
			fmt.Fprintf(&b, "%s\n", ledger.EncodeBase64(h[:]))
		}
	}
	b.WriteString("\n" + signed)
	return b.Bytes(), nil
}

// storeCosignature verifies a witness's cosignature of the signed checkpoint and stores it.
func (w Witness) storeCosignature(ctx context.Context, db *tenantdb.Evidence, size int64, signed string,
	lines []byte) error {
	for line := range strings.Lines(string(lines)) {
		found, err := ledger.Cosignatures(signed+line, []note.Verifier{w.Verifier})
		if err != nil || len(found) == 0 {
			continue
		}
		l, err := db.Unleased(ctx)
		if err != nil {
			return err
		}
		defer l.Release()
		return l.Tx(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO audit_witnesses (tenant_id, size, name, kind, said)
				VALUES ($1, $2, $3, 'cosignature', $4) ON CONFLICT DO NOTHING`, logstore.Operator, size,
				w.Verifier.Name(),
				[]byte(line))
			return err
		})
	}
	return errors.New("its response has no cosignature of its key")
}
