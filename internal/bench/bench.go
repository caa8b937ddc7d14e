// Package bench measures Konstruct against a baseline in the same run, on a private PostgreSQL. Absolute figures differ
// between machines; ratios are comparable.
package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/seed"
	"github.com/konstruct/konstruct/migrations"
)

// Measurement is one measurement.
type Measurement struct {
	What     string  `json:"what"`
	Rate     float64 `json:"rate"` // of Unit a second
	Unit     string  `json:"unit"`
	P50      float64 `json:"p50_ms,omitempty"` // of one call, in milliseconds
	P99      float64 `json:"p99_ms,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // Rate to the baseline's rate; above 1 is faster
	Baseline string  `json:"baseline,omitempty"`
	Note     string  `json:"note,omitempty"`
}

// against sets the ratio to a baseline's rate.
func (l Measurement) against(b Measurement) Measurement {
	if b.Rate > 0 {
		l.Ratio, l.Baseline = l.Rate/b.Rate, b.What
	}
	return l
}

// Bench is a database to measure on.
type Bench struct {
	Cluster *devpg.Cluster
	// PostgreSQL is the installation it runs on; its pgbench is a baseline.
	PostgreSQL devpg.Installation
	// Dir is the benchmark's own folder.
	Dir string
	// Time is the duration of each measurement.
	Time time.Duration
}

// Tenant owns the events and chunks that the benchmarks write.
var tenant = uuid.MustParse("be9c0000-0000-4000-8000-000000000001")

// Open starts a new, migrated cluster in dir, with the seed's tables in a schema named seed.
func Open(ctx context.Context, in devpg.Installation, dir string, length time.Duration,
	settings ...string) (*Bench, error) {
	c, err := devpg.Start(ctx, in, dir, settings...)
	if err != nil {
		return nil, err
	}
	b := &Bench{Cluster: c, PostgreSQL: in, Dir: dir, Time: length}
	if err := b.prepareTenants(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return b, nil
}

// Close stops the cluster.
func (b *Bench) Close() { b.Cluster.Stop() }

func (b *Bench) prepareTenants(ctx context.Context) error {
	if err := migrations.Up(ctx, b.url("konstruct_owner"), func(int64, int64) {}); err != nil {
		return err
	}
	if err := migrations.Guard(ctx, b.Cluster.SuperuserURL(devpg.Database)); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, b.url("konstruct_owner"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx,
		`CREATE SCHEMA seed; GRANT USAGE ON SCHEMA seed TO konstruct_app; SET search_path = seed, public; `+
			seed.SQL); err != nil {
		return fmt.Errorf("lay the seed's schema: %w", err)
	}
	return nil
}

func (b *Bench) url(role string) string { return b.Cluster.URL(role, devpg.Database) }

// settle writes dirty pages to disk, so that each measurement starts from the same state.
func (b *Bench) settle(ctx context.Context) error {
	if b.Cluster == nil { // what is measured needs no database
		return nil
	}
	conn, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `CHECKPOINT`)
	return err
}

// measure calls do from several workers until the time is up; each call processes n units.
func (b *Bench) measure(ctx context.Context, what, unit string, workers, n int,
	do func(worker int) error) (Measurement, error) {
	lines, err := b.alternateN(ctx, 1, unit, n, contender{what, workers, do})
	if err != nil {
		return Measurement{}, err
	}
	return lines[0], nil
}

// contender is one of several alternatives that are measured in turn.
type contender struct {
	what    string
	workers int
	do      func(worker int) error
}

// alternateN measures alternatives in turn, several times, so that changes of the machine's speed affect all of them.
func (b *Bench) alternateN(ctx context.Context, turns int, unit string, n int,
	all ...contender) ([]Measurement, error) {
	times, took := make([][]time.Duration, len(all)), make([]time.Duration, len(all))
	for turn := range turns {
		for i, c := range all {
			if turn == 0 { // connections and prepared statements are not what is measured
				if _, err := c.run(ctx, 0, 3); err != nil {
					return nil, err
				}
			}
			if err := b.settle(ctx); err != nil {
				return nil, err
			}
			begin := time.Now()
			some, err := c.run(ctx, b.Time/time.Duration(turns), 1)
			if err != nil {
				return nil, err
			}
			times[i], took[i] = append(times[i], some...), took[i]+time.Since(begin)
		}
	}
	lines := make([]Measurement, len(all))
	for i, c := range all {
		slices.Sort(times[i])
		at := func(q float64) float64 {
			return float64(times[i][int(q*float64(len(times[i])-1))].Microseconds()) / 1000
		}
		lines[i] = Measurement{What: c.what, Unit: unit, Rate: float64(len(times[i])*n) / took[i].Seconds(),
			P50: at(0.5), P99: at(0.99)}
	}
	return lines, ctx.Err()
}

// run calls do from the contender's workers for some time and at least a number of times, and returns the duration of
// each call.
func (c contender) run(ctx context.Context, length time.Duration, least int) ([]time.Duration, error) {
	type result struct {
		times []time.Duration
		err   error
	}
	results := make(chan result, c.workers)
	begin := time.Now()
	for w := range c.workers {
		go func() {
			var r result
			for (time.Since(begin) < length || len(r.times) < least) && r.err == nil && ctx.Err() == nil {
				start := time.Now()
				r.err = c.do(w)
				r.times = append(r.times, time.Since(start))
			}
			results <- r
		}()
	}
	var times []time.Duration
	var err error
	for range c.workers {
		r := <-results
		if r.err != nil {
			err = fmt.Errorf("%s: %w", c.what, r.err)
		}
		times = append(times, r.times...)
	}
	if err == nil {
		err = ctx.Err()
	}
	return times, err
}
