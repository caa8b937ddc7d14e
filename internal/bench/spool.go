package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/tenantdb"
)

// waiting is the number of queued events when delivery is measured.
const waiting = 100_000

// spool measures acknowledgement by the spool, while the database is unavailable and beside its own delivery, and then
// delivery alone, against shared commits.
func (b *Bench) spool(ctx context.Context, door *tenantdb.Door, together Measurement) (lines []Measurement, err error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	away, err := tenantdb.Open(ctx, "postgres://konstruct_app:x@127.0.0.1:1/away")
	if err != nil {
		return nil, err
	}
	defer away.Close()
	dir := filepath.Join(b.Dir, "spool")
	s, err := audit.OpenSpool(away, dir, 8<<30, quiet)
	if err != nil {
		return nil, err
	}
	event := func(worker int) audit.Event { // each caller is an agent
		e := sample()
		e.AgentID = uuid.NewSHA1(tenant, []byte{byte(worker)})
		return e
	}
	put := func(worker int) error { _, err := s.Log(ctx, tenant, event(worker)); return err }
	for _, m := range []struct {
		what    string
		callers int
	}{{"spool acknowledges, database unavailable, 1 caller", 1},
		{fmt.Sprintf("spool acknowledges, database unavailable, %d callers", callers), callers}} {
		l, err := b.measure(ctx, m.what, "events", m.callers, 1, put)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l.against(together))
	}
	var writers sync.WaitGroup
	for w := range callers {
		writers.Go(func() {
			for s.Status().Waiting < waiting && ctx.Err() == nil && put(w) == nil {
			}
		})
	}
	writers.Wait()
	n := s.Status().Waiting
	if err := s.Close(); err != nil {
		return nil, err
	}
	if s, err = audit.OpenSpool(door, dir, 8<<30, quiet); err != nil {
		return nil, err
	}
	defer s.Close()
	begin := time.Now()
	if err := s.Drain(ctx); err != nil {
		return nil, err
	}
	lines = append(lines,
		Measurement{What: "spool delivers what waits", Unit: "events", Rate: float64(n) / time.Since(begin).Seconds(),
			Note: fmt.Sprintf("%d events of %d agents", n, callers)}.against(together))
	l, err := b.measure(ctx, fmt.Sprintf("spool acknowledges while it delivers, %d callers", callers), "events",
		callers, 1, put)
	if err != nil {
		return nil, err
	}
	return append(lines, l.against(together)), s.Drain(ctx)
}
