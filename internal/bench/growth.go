package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

// Parameters of Growth.
const (
	growthSteps   = 20 // points of the curve
	growthTenants = 50
	growthPairs   = 8 // turns on the grown table and on an empty one
)

// Growth appends n events of 50 tenants to one trail, in batches of 1,000 on two connections. It returns the rate at
// each twentieth; then, measured in turn, the rate on the grown trail and on an empty one; the durations of list and
// show; and the size of an event beside the seed's.
func (b *Bench) Growth(ctx context.Context, n int64,
	progress func(done, total int64)) (lines []Measurement, err error) {
	grown, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, err
	}
	defer grown.Close()
	step := max(2*batch, n/growthSteps)
	for done := int64(0); done < n; done += step {
		begin := time.Now()
		if err := appendTo(ctx, grown, func(k int64) bool { return k*batch < step }); err != nil {
			return nil, err
		}
		lines = append(lines,
			Measurement{What: fmt.Sprintf("append, %d events there", done), Unit: "events",
				Rate: float64(step) / time.Since(begin).Seconds()})
		progress(min(done+step, n), n)
	}
	for i := range lines[1:] {
		lines[i+1] = lines[i+1].against(lines[0])
	}
	inTurns, err := b.alternate(ctx, grown)
	if err != nil {
		return nil, err
	}
	reads, err := b.reads(ctx, grown)
	if err != nil {
		return nil, err
	}
	sizes, err := b.sizes(ctx)
	return slices.Concat(lines, inTurns, reads, sizes), err
}

func tenantNumber(i int64) uuid.UUID { return uuid.NewSHA1(tenant, []byte{byte(i % growthTenants)}) }

// appendTo logs batches on two connections while more returns true for the number of batches begun.
func appendTo(ctx context.Context, door *tenantdb.Door, more func(begun int64) bool) error {
	many := slices.Repeat([]audit.Event{sample()}, batch)
	var mu sync.Mutex
	var begun int64
	var failed error
	next := func() (int64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || !more(begun) {
			return 0, false
		}
		begun++
		return begun, true
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for i, ok := next(); ok; i, ok = next() {
				if _, err := audit.LogBatch(ctx, door, tenantNumber(i), many); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return failed
}

// alternate measures the grown trail and an empty one in turn, several times, so that changes of the machine's speed
// affect both.
func (b *Bench) alternate(ctx context.Context, grown *tenantdb.Door) ([]Measurement, error) {
	super, err := pgx.Connect(ctx, b.Cluster.SuperuserURL("postgres"))
	if err != nil {
		return nil, err
	}
	defer super.Close(context.WithoutCancel(ctx))
	if _, err := super.Exec(ctx, `CREATE DATABASE empty OWNER konstruct_owner`); err != nil {
		return nil, err
	}
	if err := migrations.Up(ctx, b.Cluster.URL("konstruct_owner", "empty"), func(int64, int64) {}); err != nil {
		return nil, err
	}
	empty, err := tenantdb.Open(ctx, b.Cluster.URL("konstruct_app", "empty"))
	if err != nil {
		return nil, err
	}
	defer empty.Close()
	var rates [2]float64
	for range growthPairs {
		for i, door := range []*tenantdb.Door{empty, grown} {
			if err := b.settle(ctx); err != nil {
				return nil, err
			}
			var n int64
			begin := time.Now()
			if err := appendTo(ctx, door, func(k int64) bool { n = k; return time.Since(begin) < b.Time }); err != nil {
				return nil, err
			}
			rates[i] += float64(n*batch) / time.Since(begin).Seconds() / growthPairs
		}
	}
	base := Measurement{What: fmt.Sprintf("append to an empty trail, mean of %d turns", growthPairs), Unit: "events",
		Rate: rates[0]}
	return []Measurement{base,
		Measurement{What: fmt.Sprintf("append to the grown trail, mean of %d turns", growthPairs), Unit: "events",
			Rate: rates[1]}.against(base)}, nil
}

// reads measures the newest page of a tenant's list, and single events from it.
func (b *Bench) reads(ctx context.Context, door *tenantdb.Door) ([]Measurement, error) {
	page, err := audit.List(ctx, door, tenantNumber(1), audit.Filter{Limit: audit.MaxList})
	if err != nil {
		return nil, err
	}
	i := int64(0)
	list, err := b.measure(ctx, "list: a tenant's newest 50", "lists", 1, 1, func(int) error {
		i++
		_, err := audit.List(ctx, door, tenantNumber(i), audit.Filter{})
		return err
	})
	if err != nil {
		return nil, err
	}
	show, err := b.measure(ctx, "show: one event", "events", 1, 1, func(int) error {
		i++
		_, err := audit.Get(ctx, door, tenantNumber(1), page[i%int64(len(page))].ID)
		return err
	})
	return []Measurement{list, show}, err
}

// sizes returns the size of an event with its seal and indexes, and of one in the seed's schema.
func (b *Bench) sizes(ctx context.Context) ([]Measurement, error) {
	conn, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	e := sample()
	for range 100 {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{"seed", "audit_events"},
			[]string{"tenant_id", "agent_id", "user_id", "action_type", "input_summary", "output_summary", "latency_ms",
				"metadata"},
			pgx.CopyFromSlice(batch, func(int) ([]any, error) {
				return []any{tenant, e.AgentID, e.UserID, e.Action, e.Input, e.Output, int32(e.Latency.Milliseconds()),
					e.Metadata}, nil
			})); err != nil {
			return nil, err
		}
	}
	var lines []Measurement
	for _, m := range []struct{ what, sql string }{
		{"bytes of an event, the seed's schema",
			`SELECT pg_total_relation_size('seed.audit_events')::float8 / (SELECT count(*) FROM seed.audit_events)`},
		{"bytes of an event, sealed",
			`SELECT (pg_total_relation_size('public.audit_events')
			         + pg_total_relation_size('public.audit_seals'))::float8
			  / (SELECT count(*) FROM public.audit_events)`},
	} {
		var bytes float64
		if err := conn.QueryRow(ctx, m.sql).Scan(&bytes); err != nil {
			return nil, err
		}
		lines = append(lines, Measurement{What: m.what, Note: fmt.Sprintf("%.0f bytes with indexes", bytes)})
	}
	return lines, nil
}

// Plot plots rate against size as SVG.
func Plot(lines []Measurement) string {
	var rates []float64
	var last string
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l.What, "append, "); ok {
			rates, last = append(rates, l.Rate), strings.TrimSuffix(rest, " events there")
		}
	}
	if len(rates) == 0 {
		return ""
	}
	const width, height, left, bottom = 640, 260, 70, 40
	top := slices.Max(rates) * 1.1
	var points []string
	for i, r := range rates {
		points = append(points, fmt.Sprintf("%.1f,%.1f", left+float64(i)*(width-left-20)/float64(max(1, len(rates)-1)),
			(height-bottom)*(1-r/top)))
	}
	var b strings.Builder
	fmt.Fprintf(&b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for i := range 5 {
		y := float64(height-bottom) * float64(i) / 4
		fmt.Fprintf(&b,
			`<line x1="%d" y1="%.0f" x2="%d" y2="%.0f" stroke="#ddd"/>`+
				`<text x="%d" y="%.0f" text-anchor="end">%.0f/s</text>`+"\n", left, y, width-20, y, left-6,
			max(12, y+4), top*(1-float64(i)/4))
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#0a66c2" stroke-width="2"/>`+"\n",
		strings.Join(points, " "))
	fmt.Fprintf(&b,
		`<text x="%d" y="%d">0</text>`+
			`<text x="%d" y="%d" text-anchor="end">%s events there when each twentieth began</text>`+"\n</svg>\n", left,
		height-bottom+18, width-20, height-bottom+18, last)
	return b.String()
}
