package audit_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// usual is an event of typical size.
func usual() audit.Event {
	return audit.Event{AgentID: tenantB, UserID: "ada", Action: audit.ActionLLMCall,
		Input:   "What the agent was asked, in a sentence of the usual length for a summary.",
		Output:  "What it answered, in another such sentence, perhaps a little longer.",
		Latency: 1500 * time.Millisecond,
		Metadata: json.RawMessage(
			`{"gen_ai.request.model": "claude-opus-4-5", "gen_ai.usage.input_tokens": 812, ` +
				`"gen_ai.usage.output_tokens": 96}`)}
}

// BenchmarkLog measures one event by one caller, in its own round trip.
func BenchmarkLog(b *testing.B) {
	door := testkit.Door(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := audit.Log(b.Context(), door, tenantA, usual()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGroup measures one event by each of 64 callers, in shared commits.
func BenchmarkGroup(b *testing.B) {
	group := audit.NewGroup(testkit.Door(b))
	defer group.Close()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := group.Log(b.Context(), tenantA, usual()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkBatch measures one event of a batch of 1,000.
func BenchmarkBatch(b *testing.B) {
	door := testkit.Door(b)
	batch := make([]audit.Event, 1000)
	for i := range batch {
		batch[i] = usual()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += len(batch) {
		if _, err := audit.LogBatch(b.Context(), door, tenantA, batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRedact measures one event through all detectors, compared with one that is only checked.
func BenchmarkRedact(b *testing.B) {
	p := policy(b, detectAll)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Redact(tenantA, usual()); err != nil {
			b.Fatal(err)
		}
	}
}
