package otel_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
)

// TestMetadataAlwaysFits maps spans whose attributes are too many and too long, each in another way: what the event
// needs is there, and what is left out is counted.
func TestMetadataAlwaysFits(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for name, fill := range map[string]func(pcommon.Map){
		"names like ids": func(m pcommon.Map) {
			for i := range 990 {
				m.PutStr(fmt.Sprintf("%0240d_id", i), strings.Repeat("x", 100))
			}
		},
		"names of control characters": func(m pcommon.Map) {
			for i := range 990 {
				m.PutStr(strings.Repeat("\x01", 250)+fmt.Sprint(i), "x\x00")
			}
		},
		"long texts": func(m pcommon.Map) {
			for i := range 990 {
				m.PutStr(fmt.Sprint("text ", i), long[:20<<10])
			}
		},
		"one long text": func(m pcommon.Map) { m.PutStr("text", long) },
		"long messages": func(m pcommon.Map) {
			m.PutStr("gen_ai.input.messages", `[{"role":"user","parts":[{"type":"text","content":"`+long+`"}]}]`)
		},
		"deep lists": func(m pcommon.Map) {
			for i := range 100 {
				list := m.PutEmptySlice(fmt.Sprint("list ", i))
				for range 10_000 {
					list.AppendEmpty().SetInt(1 << 40)
				}
			}
		},
		"lists of strangers": func(m pcommon.Map) {
			for i := range 990 {
				m.PutStr(fmt.Sprintf("llm.prompts.%d.%0200d", i, i), long[:10<<10])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := ptrace.NewTraces()
			s := in.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			s.SetTraceID(pcommon.TraceID{1})
			s.SetSpanID(pcommon.SpanID{2})
			s.Attributes().PutStr("gen_ai.operation.name", "chat")
			s.Attributes().PutInt("gen_ai.usage.input_tokens", 7)
			fill(s.Attributes())
			for m := range otel.Spans(in, otel.Options{}) {
				var sent map[string]any
				if err := json.Unmarshal(m.Event.Metadata, &sent); err != nil {
					t.Fatal(err)
				}
				if n := len(m.Event.Metadata); n > audit.MaxMetadata {
					t.Errorf("the metadata has %d bytes", n)
				}
				for _, needed := range []string{"trace_id", "span_id", "gen_ai.operation.name",
					"gen_ai.usage.input_tokens"} {
					if sent[needed] == nil {
						t.Errorf("%s is missing", needed)
					}
				}
				omitted, _ := sent["konstruct.omitted_attributes"].(float64)
				if there := len(sent) + int(omitted); name != "lists of strangers" && there < s.Attributes().Len() {
					t.Errorf("%d attributes and %v that were left out, of %d", len(sent), omitted, s.Attributes().Len())
				}
			}
		})
	}
}
