package webhook_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/webhook"
)

// BenchmarkEscalation measures what the trigger adds to an event of an escalation where the tenant has no webhook: the
// median of events with it against those without, taken in turns in one run.
func BenchmarkEscalation(b *testing.B) {
	d := testkit.Database(b)
	door := testkit.DoorOf(b, d)
	open := func() time.Duration {
		begin := time.Now()
		if err := door.Tx(b.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO audit_events (tenant_id, action_type, input_summary)
				VALUES ($1, 'escalation', 'refund above the limit')`, acme)
			return err
		}); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	var with, without []time.Duration
	for range 100 {
		open()
	}
	const turn = 100
	for range max(1, b.N/(2*turn)) {
		testkit.Super(b, d, `SET konstruct.allow_ddl = on; ALTER TABLE audit_events DISABLE TRIGGER audit_webhooks`)
		for range turn {
			without = append(without, open())
		}
		testkit.Super(b, d,
			`SET konstruct.allow_ddl = on; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_webhooks`)
		for range turn {
			with = append(with, open())
		}
	}
	median := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Nanoseconds())
	}
	b.ReportMetric(median(with)/median(without), "with/without")
	b.ReportMetric(median(with)-median(without), "ns-added")
}

// BenchmarkDeliveries measures how many messages a second one worker delivers to one endpoint of this machine.
func BenchmarkDeliveries(b *testing.B) {
	d := testkit.Database(b)
	w := &world{t: b, d: d, door: testkit.DoorOf(b, d)}
	w.endpoints = newEndpoints(w.door)
	r := receive(b, nil)
	w.endpoint(acme, r.url)
	w.tx(acme, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT webhook_emit($1, $2, now(), NULL, '{}') FROM generate_series(1, $3)`, acme,
			webhook.IngestFinished, b.N)
		return err
	})
	b.ResetTimer()
	w.work()
	testkit.Until(b, "all are delivered", func() bool { return len(r.got()) >= b.N })
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
