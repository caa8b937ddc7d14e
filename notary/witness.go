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

// Witness is an endpoint that speaks C2SP tlog-witness. It sees the super-log's checkpoints and nothing else: neither
// which tenants there are nor how many events.
type Witness struct {
	URL      string // its prefix; /add-checkpoint is added
	Verifier note.Verifier
}

// NewWitness reads a witness as the configuration has it: its key in signed-note form, a space, its URL.
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
	// witnessLimit is how long a witness may take; nothing waits for it.
	witnessLimit = 10 * time.Second
	// maxAnswer bounds what a witness may answer.
	maxAnswer = 64 << 10
)

// witnessState is the conversations with the witnesses, one each, which go on beside the rounds.
type witnessState struct {
	sync.WaitGroup
	mu sync.Mutex
	// by witness: the size to ask for when the one in progress is done; there while it is busy
	next        map[string]int64
	lastProblem map[string]int64 // by witness: the size it cosigned last
	fork        error            // a witness has seen more than there is here
	stamped     time.Time        // when a time-stamp was given last
	stamping    bool
}

// cosignHead asks the witnesses to cosign the newest checkpoint. One that is slow skips those in between; nothing waits
// for it.
func (n *Notary) cosignHead() {
	a := &n.asking
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next, a.lastProblem = map[string]int64{}, map[string]int64{}
	}
	for _, w := range n.c.Witnesses {
		name := w.Verifier.Name()
		_, busy := a.next[name]
		a.next[name] = n.stored
		if !busy {
			a.Go(func() { n.talkToWitness(w, name) })
		}
	}
}

// cosignFirst asks every witness about the last signed checkpoint before another is signed: one that has seen more
// knows that the database was taken back. One that does not answer is asked again later, and nothing waits for it.
func (n *Notary) cosignFirst(ctx context.Context) error {
	if n.signed == "" || len(n.c.Witnesses) == 0 {
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

// talkToWitness asks one witness until there is nothing newer to ask for.
func (n *Notary) talkToWitness(w Witness, name string) {
	a := &n.asking
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
			a.lastProblem[name] = size
		} else if errors.Is(err, logstore.ErrRefused) {
			a.fork = err
		}
		agree := int64(0)
		for _, at := range a.lastProblem {
			if at == size {
				agree++
			}
		}
		a.mu.Unlock()
		if err != nil {
			n.c.Logger.Warn("notary: a witness did not cosign", "witness", name, "size", size, "error", err)
			continue
		}
		n.figures.witnesses.Store(agree)
		n.figures.witnessed.Store(size)
	}
}

// cosign asks one witness, and stores what it says.
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
		said, at, err := w.post(ctx, raw)
		if err != nil {
			return err
		}
		switch {
		case said != nil:
			return w.keep(ctx, n.c.DB, size, super.Signed, said)
		case at > size:
			return fmt.Errorf("%w: witness %s has cosigned the super-log at size %d, and here it has %d: this "+
				"database was taken back, or another notary signs with our key", logstore.ErrRefused,
				w.Verifier.Name(), at, size)
		case try == 1 || at == old:
			return fmt.Errorf("it holds size %d, and would not go on from there", at)
		}
		old = at
	}
	return nil
}

// post sends a request; the answer is signature lines, or the size that the witness stands at.
func (w Witness) post(ctx context.Context, body []byte) (said []byte, at int64, err error) {
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
			return nil, 0, fmt.Errorf("it answered %s without its size", resp.Status)
		}
		return nil, at, nil
	}
	return nil, 0, fmt.Errorf("it answered %s: %.200q", resp.Status, answer)
}

// request is what a witness is asked: to go from the old size to the signed checkpoint's, in a tree of that size.
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

// keep stores what the witness said of the signed checkpoint of a size, when it is its cosignature.
func (w Witness) keep(ctx context.Context, db *tenantdb.Evidence, size int64, signed string, said []byte) error {
	for line := range strings.Lines(string(said)) {
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
	return errors.New("what it answered is no cosignature of its key")
}
