package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/export"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

// Properties of the generated events.
const (
	askedTenants = 20
	askedDays    = 90 // over which they lie
	runLength    = 12 // events of one conversation
)

// world generates events with realistic distributions: words by rank, five models, runs, some escalations.
type world struct {
	*rand.Rand
	words []string
	begin time.Time
	each  time.Duration // from one event to the next
	n     int64
}

func newWorld(n int64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(1, 2)), begin: time.Now().AddDate(0, 0, -askedDays),
		each: time.Duration(askedDays*24) * time.Hour / time.Duration(n+1)}
	for i := range 5000 {
		w.words = append(w.words, fmt.Sprintf("word%d", i))
	}
	return w
}

func (w *world) text(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = w.words[min(int(w.ExpFloat64()*300), len(w.words)-1)]
	}
	return strings.Join(parts, " ")
}

// batch returns a thousand consecutive events of one tenant.
func (w *world) batch() (tenant int64, events []audit.Event) {
	tenant = w.n / batch % askedTenants
	for range batch {
		w.n++
		e := audit.Event{AgentID: tenantNumber(w.n % 7), UserID: fmt.Sprint("user-", w.IntN(500)),
			Action: audit.ActionLLMCall, Input: w.text(25), Output: w.text(15),
			At:      w.begin.Add(w.each * time.Duration(w.n)),
			Latency: time.Duration(w.IntN(3000)) * time.Millisecond}
		m := audit.Metadata{"gen_ai.conversation.id": conversation(w.n / runLength),
			"gen_ai.request.model": fmt.Sprint("model-", w.IntN(5)), "gen_ai.usage.input_tokens": w.IntN(4000),
			"gen_ai.usage.output_tokens": w.IntN(900)}
		if w.n%500 == 0 {
			e.Action, m["konstruct.escalation.to"] = audit.ActionEscalation, "support"
		}
		e.Metadata, _ = json.Marshal(m) // plain values
		events = append(events, e)
	}
	return tenant, events
}

func conversation(n int64) string { return fmt.Sprint("conversation-", n) }

// Questions measures queries on a trail of n events of twenty tenants, what the word index costs writers, and exports.
func (b *Bench) Questions(ctx context.Context, n int64,
	progress func(done, total int64)) (lines []Measurement, err error) {
	door, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, err
	}
	defer door.Close()
	schema, err := migrations.Open(b.url("konstruct_owner"))
	if err != nil {
		return nil, err
	}
	defer schema.Close()
	w := newWorld(n)
	fill := func(what string, n int64) (Measurement, error) {
		begin := time.Now()
		for i := int64(0); i < n; i += batch {
			tenant, events := w.batch()
			if _, err := audit.LogBatch(ctx, door, tenantNumber(tenant), events); err != nil {
				return Measurement{}, err
			}
			progress(w.n, n)
		}
		return Measurement{What: what, Unit: "events", Rate: float64(n) / time.Since(begin).Seconds()}, nil
	}
	plain, err := fill("writing, one connection, no index of words", n)
	if err != nil {
		return nil, err
	}
	lines = append(lines, plain)
	if err := b.analyze(ctx); err != nil {
		return nil, err
	}
	some, err := b.ask(ctx, door, w, "")
	if err != nil {
		return nil, err
	}
	lines = append(lines, some...)
	if err := schema.TextIndex(ctx, true); err != nil {
		return nil, err
	}
	if some, err = b.ask(ctx, door, w, ", by the index of words"); err != nil {
		return nil, err
	}
	lines = append(lines, some[len(some)-2:]...)
	indexed, err := fill("writing with the index of words", max(n/20, batch))
	if err != nil {
		return nil, err
	}
	lines = append(lines, indexed.against(plain))
	some, err = b.exports(ctx, door, w.n)
	return append(lines, some...), err
}

func (b *Bench) analyze(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.url("konstruct_owner"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `VACUUM (ANALYZE) audit_events`)
	return err
}

// ask measures each query, each time for a random tenant; the searches come last.
func (b *Bench) ask(ctx context.Context, door *tenantdb.Door, w *world, how string) (lines []Measurement, err error) {
	who := func() uuid.UUID { return tenantNumber(w.Int64N(askedTenants)) }
	since := func(days int) time.Time { return time.Now().AddDate(0, 0, -days) }
	stats := func(days int, by ...string) func() error {
		return func() error {
			_, err := audit.ComputeStats(ctx, door, who(), audit.StatsFilter{By: by, Since: since(days)})
			return err
		}
	}
	turn := int64(-1)
	first := func() error { // of each tenant once: its days are not counted yet
		turn++
		_, err := audit.ComputeStats(ctx, door, tenantNumber(turn%askedTenants),
			audit.StatsFilter{By: []string{"day"}, Since: since(askedDays + 1)})
		return err
	}
	search := func(word func() string) func() error {
		return func() error {
			_, err := audit.SearchText(ctx, door, who(), audit.TextQuery{Text: word()})
			return err
		}
	}
	for _, q := range []struct {
		what  string
		do    func() error
		times int // exactly; 0 for as long as a line is measured
	}{
		{"a run, as a tree", func() error {
			tenant := w.Int64N(askedTenants)
			n := (w.Int64N(w.n/batch/askedTenants)*askedTenants + tenant) * batch / runLength
			_, err := audit.GetRun(ctx, door, tenantNumber(tenant), conversation(n+2))
			return err
		}, 0},
		{"the newest fifty", func() error {
			_, err := audit.List(ctx, door, who(), audit.Filter{})
			return err
		}, 0},
		{"escalations that are open", func() error {
			_, err := audit.Escalations(ctx, door, who(), audit.EscalationFilter{State: audit.StateOpen})
			return err
		}, 0},
		{"figures of all 90 days, asked for the first time", first, askedTenants},
		{"figures of a day, by model", stats(1, "model"), 0},
		{"figures of a week, by day and model", stats(7, "day", "model"), 0},
		{"figures of a month, by agent", stats(30, "agent"), 0},
		{"figures of all 90 days, by day", stats(askedDays+1, "day"), 0},
		{"a rare word" + how, search(func() string { return fmt.Sprint("word", 1500+w.IntN(500)) }), 0},
		{"two common words" + how, search(func() string {
			return fmt.Sprintf("word%d word%d", w.IntN(20), 20+w.IntN(20))
		}), 0},
	} {
		times := []time.Duration{}
		for begin := time.Now(); q.times == 0 && (time.Since(begin) < b.Time || len(times) < 20) ||
			len(times) < q.times; {
			at := time.Now()
			if err := q.do(); err != nil {
				return nil, fmt.Errorf("%s: %w", q.what, err)
			}
			times = append(times, time.Since(at))
		}
		slices.Sort(times)
		ms := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))].Microseconds()) / 1000 }
		lines = append(lines,
			Measurement{What: q.what, Unit: "answers",
				Rate: float64(time.Second) / (ms(0.5) * float64(time.Millisecond)), P50: ms(0.5), P99: ms(0.99),
				Note: fmt.Sprintf("p95 %.1f ms", ms(0.95))})
	}
	return lines, nil
}

// exports measures each format with the events of all tenants, one tenant after the other.
func (b *Bench) exports(ctx context.Context, door *tenantdb.Door, n int64) (lines []Measurement, err error) {
	for i, format := range export.Formats {
		resetPeak()
		begin, bytes := time.Now(), int64(0)
		for tenant := range int64(askedTenants) {
			dir := filepath.Join(b.Dir, "export")
			from := func(ctx context.Context, f audit.Filter) iter.Seq2[*audit.StoredEvent, error] {
				return audit.All(ctx, door, tenantNumber(tenant), f)
			}
			m, _, err := export.Export(ctx, from, blob.Folder(dir),
				export.Options{Tenant: tenantNumber(tenant), Format: format})
			if err != nil {
				return nil, err
			}
			for _, p := range m.Parts {
				bytes += p.Bytes
			}
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
		}
		l := Measurement{What: "export as " + format, Unit: "events", Rate: float64(n) / time.Since(begin).Seconds(),
			Note: fmt.Sprintf("%d bytes an event%s", bytes/n, peak())}
		if i > 0 {
			l = l.against(lines[0])
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// resetPeak resets the process's peak memory, if the system supports that.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peak returns the peak memory of the process since then.
func peak() string {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return ""
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	var kilobytes int64
	for _, line := range strings.Split(string(raw), "\n") {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); err == nil {
			return fmt.Sprintf(", peak %d MB", kilobytes>>10)
		}
	}
	return ""
}
