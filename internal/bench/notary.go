package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// proofs is the number of proofs that are timed.
const proofs = 200

// Notary measures the notary on a trail of n events: how it keeps up with writers, what a checkpoint costs on an
// empty and on a grown trail, catching up, verification, one proof, evidence, the stranger's verification, and evidence
// for a late part of a tenant's time against all of it.
func (b *Bench) Notary(ctx context.Context, n int64,
	progress func(done, total int64)) (lines []Measurement, err error) {
	door, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, err
	}
	defer door.Close()
	db, err := tenantdb.OpenEvidence(ctx, b.url("konstruct_notary"))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c := notary.Config{DB: db,
		Keys:   notary.Keys{File: filepath.Join(b.Dir, "notary", "key"), Name: "konstruct.example/bench"},
		Anchor: notary.FileAnchor(filepath.Join(b.Dir, "notary", "checkpoint")),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	o, err := notary.New(c)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	for _, measure := range []func() ([]Measurement, error){
		func() ([]Measurement, error) {
			l, err := b.checkpoint(ctx, door, o, "an empty trail")
			return []Measurement{l}, err
		},
		func() ([]Measurement, error) { return b.keepsUp(ctx, door, o) },
		func() ([]Measurement, error) { return b.catchUp(ctx, door, o, n, progress) },
		func() ([]Measurement, error) {
			l, err := b.checkpoint(ctx, door, o, "the grown trail")
			return []Measurement{l.against(lines[0])}, err
		},
		func() ([]Measurement, error) { return b.proves(ctx, db) },
		func() ([]Measurement, error) { return b.verifies(ctx, db, c) },
		func() ([]Measurement, error) { return b.unknownTenants(ctx, db, c) },
		func() ([]Measurement, error) { return b.oneDay(ctx, door, db, o, n) },
	} {
		some, err := measure()
		if err != nil {
			return nil, err
		}
		lines = append(lines, some...)
	}
	return lines, nil
}

// checkpoint measures a round with one new event.
func (b *Bench) checkpoint(ctx context.Context, door *tenantdb.Door, o *notary.Notary, on string) (Measurement, error) {
	if _, err := o.Round(ctx); err != nil { // what waited is not what is measured
		return Measurement{}, err
	}
	return b.measure(ctx, "event and checkpoint, "+on, "checkpoints", 1, 1, func(int) error {
		if _, err := audit.Log(ctx, door, tenantNumber(1), sample()); err != nil {
			return err
		}
		_, err := o.Round(ctx)
		return err
	})
}

// keepsUp has two connections write batches as fast as they can while the notary makes a checkpoint a second, and
// says how long the oldest event of each round had waited for its signature.
func (b *Bench) keepsUp(ctx context.Context, door *tenantdb.Door, o *notary.Notary) ([]Measurement, error) {
	alone, err := b.writes(ctx, door, func() {})
	if err != nil {
		return nil, err
	}
	if err := settled(ctx, o); err != nil { // what was written without it is not its lag
		return nil, err
	}
	var lags []time.Duration
	stop, done := make(chan struct{}), make(chan error, 1)
	beside, err := b.writes(ctx, door, func() {
		go func() {
			for {
				begin := time.Now()
				more, err := o.Round(ctx)
				if err != nil {
					done <- err
					return
				}
				if lag := o.Lag(); lag > 0 {
					lags = append(lags, lag)
				}
				wait := time.Second - time.Since(begin)
				if more {
					wait = 0
				}
				select {
				case <-stop:
					done <- nil
					return
				case <-time.After(wait):
				}
			}
		}()
	})
	close(stop)
	if err := errors.Join(err, <-done); err != nil {
		return nil, err
	}
	if err := settled(ctx, o); err != nil {
		return nil, err
	}
	alone.What, beside.What = "batches of 1,000, 2 connections, no notary",
		"batches of 1,000, 2 connections, beside the notary"
	beside = beside.against(alone)
	slices.Sort(lags)
	if len(lags) > 0 {
		beside.Note =
			fmt.Sprintf(
				"the oldest event of a round waited %.1f s at the median, %.1f s at the 95th percentile (%d rounds)",
				lags[len(lags)/2].Seconds(), lags[len(lags)*95/100].Seconds(), len(lags))
	}
	return []Measurement{alone, beside}, nil
}

// settled runs rounds until no event waits.
func settled(ctx context.Context, o *notary.Notary) (err error) {
	for more := true; more && err == nil; {
		more, err = o.Round(ctx)
	}
	return err
}

func (b *Bench) writes(ctx context.Context, door *tenantdb.Door, start func()) (Measurement, error) {
	if err := b.settle(ctx); err != nil {
		return Measurement{}, err
	}
	start()
	begin, n := time.Now(), int64(0)
	length := max(b.Time, 10*time.Second) // some rounds must fit in
	err := appendTo(ctx, door, func(k int64) bool { n = k; return time.Since(begin) < length })
	return Measurement{Unit: "events", Rate: float64(n*batch) / time.Since(begin).Seconds()}, err
}

// catchUp writes n events without a notary, and measures how fast the notary integrates them.
func (b *Bench) catchUp(ctx context.Context, door *tenantdb.Door, o *notary.Notary, n int64,
	progress func(done, total int64)) ([]Measurement, error) {
	begin := time.Now()
	if err := appendTo(ctx, door, func(k int64) bool { progress(k*batch, n); return k*batch < n }); err != nil {
		return nil, err
	}
	wrote := Measurement{What: "writing what the notary will catch up with", Unit: "events",
		Rate: float64(n) / time.Since(begin).Seconds()}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	begin = time.Now()
	if err := settled(ctx, o); err != nil {
		return nil, err
	}
	l := Measurement{What: "catching up: read again, recomputed, put in order, signed", Unit: "events",
		Rate: float64(n) / time.Since(begin).Seconds(), Note: fmt.Sprintf("%d events", n)}
	return []Measurement{wrote, l.against(wrote)}, nil
}

// proves measures one proof of an event at a random position in a tenant's log.
func (b *Bench) proves(ctx context.Context, db *tenantdb.Evidence) ([]Measurement, error) {
	ids, err := verify.Sample(ctx, db, tenantNumber(1), proofs)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, errors.New("no events to prove")
	}
	i := 0
	l, err := b.measure(ctx, "one proof", "proofs", 1, 1, func(int) error {
		i++
		_, err := verify.Prove(ctx, db, tenantNumber(1), ids[i%len(ids)], nil)
		return err
	})
	return []Measurement{l}, err
}

// verifies measures a whole verification, against reading the same rows.
func (b *Bench) verifies(ctx context.Context, db *tenantdb.Evidence, c notary.Config) ([]Measurement, error) {
	base, err := b.reading(ctx, db)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	r, err := verify.Run(ctx, db,
		verify.Options{Anchor: c.Anchor, Floor: evidence.DefaultFloor, OnFinding: func(verify.Finding) {}})
	if err != nil {
		return nil, err
	}
	if !r.OK() {
		return nil, fmt.Errorf("verification found %+v", r)
	}
	l := Measurement{What: "verify: rows, seals, logs, checkpoints, the anchor", Unit: "events",
		Rate: float64(r.Events) / time.Since(begin).Seconds(),
		Note: fmt.Sprintf("%d events, %d checkpoints", r.Events, r.Checkpoints)}
	return []Measurement{base, l.against(base)}, nil
}

// unknownTenants measures evidence of all of a tenant's log, with every event shown and with none, and its
// verification.
func (b *Bench) unknownTenants(ctx context.Context, db *tenantdb.Evidence,
	c notary.Config) (lines []Measurement, err error) {
	key, err := c.Keys.Read()
	if err != nil {
		return nil, err
	}
	of := tenantNumber(1)
	other := "tool_invocation" // matches nothing: each event shows what excludes it
	for _, k := range []struct {
		what   string
		filter evidence.Filter
	}{{"evidence: all of a tenant's events", evidence.Filter{}},
		{"evidence: none matches, each shows that", evidence.Filter{Action: &other}}} {
		made, line, err := b.evidence(ctx, db, of, k.filter)
		if err != nil {
			return nil, err
		}
		line.What = k.what
		begin := time.Now()
		r, err := evidence.Verify(bytes.NewReader(made), int64(len(made)), evidence.Trust{Key: key.Key})
		if err != nil || !r.OK() {
			return nil, fmt.Errorf("%+v, %w", r, err)
		}
		n := float64(r.Matching + r.Excluded)
		verify := Measurement{What: "a stranger verifies it", Unit: "events", Rate: n / time.Since(begin).Seconds(),
			Note: fmt.Sprintf("%.0f events, %.0f bytes each", n, float64(len(made))/n)}
		lines = append(lines, line, verify.against(line))
	}
	return lines, nil
}

// oneDay measures evidence for a late part of a tenant's time, against evidence for all of it. A ratio of 1 means that
// the time is proportional to the number of events.
func (b *Bench) oneDay(ctx context.Context, door *tenantdb.Door, db *tenantdb.Evidence, o *notary.Notary,
	n int64) ([]Measurement, error) {
	time.Sleep(evidence.ClockSlack + time.Second) // a range begins that much before the time asked for
	begin := time.Now()
	if err := appendTo(ctx, door, func(k int64) bool { return k*batch < n/10 }); err != nil {
		return nil, err
	}
	if err := settled(ctx, o); err != nil {
		return nil, err
	}
	var lines []Measurement
	for _, k := range []struct {
		what  string
		since time.Time
	}{{"evidence: all of a tenant's time", time.Time{}}, {"evidence: the last part of it", begin}} {
		_, line, err := b.evidence(ctx, db, tenantNumber(1), evidence.Filter{Since: k.since})
		if err != nil {
			return nil, err
		}
		line.What = k.what
		lines = append(lines, line)
	}
	lines[1] = lines[1].against(lines[0])
	return lines, nil
}

func (b *Bench) evidence(ctx context.Context, db *tenantdb.Evidence, of uuid.UUID,
	f evidence.Filter) ([]byte, Measurement, error) {
	path := filepath.Join(b.Dir, "bundle.zip")
	out, err := os.Create(path)
	if err != nil {
		return nil, Measurement{}, err
	}
	defer os.Remove(path)
	begin := time.Now()
	made, err := verify.WriteBundle(ctx, db, of, f, nil, out, nil)
	took := time.Since(begin)
	if err = errors.Join(err, out.Close()); err != nil {
		return nil, Measurement{}, err
	}
	raw, err := os.ReadFile(path)
	n := made.Matching + made.Excluded
	return raw, Measurement{Unit: "events", Rate: float64(n) / took.Seconds(),
		Note: fmt.Sprintf("%d events, %s", n, took.Round(time.Millisecond))}, err
}
