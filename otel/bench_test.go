package otel_test

import (
	"testing"

	"github.com/konstruct/konstruct/otel"
)

// BenchmarkSpans measures the mapping of a recorded export's spans.
func BenchmarkSpans(b *testing.B) {
	in := traces(b, "testdata/exports/openai-v2/span-only-tools.1.traces.pb")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for m := range otel.Spans(in, otel.Options{}) {
			if !m.Dropped {
				n++
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "spans/s")
}
