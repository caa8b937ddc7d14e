package otel_test

import (
	"bytes"
	"encoding/json"
	"iter"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/strictjson"
)

// seeds adds recorded exports of a kind to a fuzz target's corpus.
func seeds(f *testing.F, kind string) {
	f.Helper()
	n := 0
	for _, files := range exports(f) {
		for _, path := range files {
			if !strings.HasSuffix(path, kind) || n > 40 {
				continue
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			if len(raw) < 20_000 {
				n++
				f.Add(raw)
			}
		}
	}
}

// storable holds mapped events against what the trail takes, and the mapping against itself: a retry makes the same.
func storable(t *testing.T, once, again iter.Seq[otel.Mapped]) {
	t.Helper()
	var all []audit.Event
	for m := range once {
		all = append(all, m.Event)
		if m.Dropped {
			continue
		}
		e := m.Event
		for name, s := range map[string]string{"input": e.Input, "output": e.Output, "user": e.UserID} {
			if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
				t.Errorf("%s is no text: %q", name, s)
			}
		}
		if len(e.UserID) > audit.MaxName || len(e.Metadata) > audit.MaxMetadata || !json.Valid(e.Metadata) {
			t.Fatalf("a user of %d bytes, metadata of %d: %.300q", len(e.UserID), len(e.Metadata), e.Metadata)
		}
		if n := nesting(e.Metadata); n > audit.MaxMetadataDepth-1 { // details have it one level deeper
			t.Errorf("metadata is nested %d deep", n)
		}
		if err := strictjson.CheckDuplicates(e.Metadata); err != nil {
			t.Error(err)
		}
		if at, what := strictjson.CheckStorable(e.Metadata); what != "" {
			t.Errorf("%s: %s", at, what)
		}
		if e.Latency < 0 || e.Action == "" || !e.At.IsZero() && (e.At.Year() < 1 || e.At.Year() > 9999) {
			t.Errorf("%s of %v at %v", e.Action, e.Latency, e.At)
		}
		details := otel.Details(e, e.ID)
		if !json.Valid(details.Metadata) || len(details.Metadata) > audit.MaxMetadata {
			t.Errorf("details: %.300q", details.Metadata)
		}
	}
	i := 0
	for m := range again {
		if diff := cmp.Diff(all[i], m.Event, cmp.AllowUnexported(audit.Event{})); diff != "" {
			t.Fatal(diff)
		}
		i++
	}
}

// nesting returns how deep valid JSON is nested.
func nesting(raw []byte) (deepest int) {
	d, depth := json.NewDecoder(bytes.NewReader(raw)), 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// TestTheDeepestMetadataIsTaken nests values where they are deepest already: in an attribute of a span's event.
func TestTheDeepestMetadataIsTaken(t *testing.T) {
	traces := ptrace.NewTraces()
	s := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	s.Attributes().PutStr("gen_ai.operation.name", "chat")
	s.Attributes().PutStr("gen_ai.output.messages", `[{"role":"assistant","parts":[{"type":"x","y":`+
		strings.Repeat("[", 200)+strings.Repeat("]", 200)+`}]}]`)
	for _, m := range []pcommon.Map{s.Attributes(), s.Events().AppendEmpty().Attributes()} {
		at := m.PutEmptyMap("deep")
		for range 60 {
			at = at.PutEmptySlice("list").AppendEmpty().SetEmptyMap()
		}
	}
	o := otel.Options{}
	storable(t, otel.Spans(traces, o), otel.Spans(traces, o))
}

// FuzzSpans maps whatever decodes as an export of spans.
func FuzzSpans(f *testing.F) {
	seeds(f, ".traces.pb")
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := ptraceotlp.NewExportRequest()
		if _, err := otel.TraceShape.CheckProto(raw); err != nil || in.UnmarshalProto(raw) != nil {
			return
		}
		o := otel.Options{KeepOther: true}
		storable(t, otel.Spans(in.Traces(), o), otel.Spans(in.Traces(), o))
	})
}

// FuzzLogs maps whatever decodes as an export of log records.
func FuzzLogs(f *testing.F) {
	seeds(f, ".logs.pb")
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := plogotlp.NewExportRequest()
		if _, err := otel.LogShape.CheckProto(raw); err != nil || in.UnmarshalProto(raw) != nil {
			return
		}
		o := otel.Options{KeepOther: true}
		storable(t, otel.Logs(in.Logs(), o), otel.Logs(in.Logs(), o))
	})
}

// FuzzOTLPJSON decodes and maps JSON.
func FuzzOTLPJSON(f *testing.F) {
	seeds(f, ".traces.json")
	f.Add([]byte(`{"resource_spans":[{"scopeSpans":[{"spans":[{"trace_id":"00","spanId":"01","name":"x"}]}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := ptraceotlp.NewExportRequest()
		if _, err := otel.CheckJSON(raw); err != nil || in.UnmarshalJSON(raw) != nil {
			return
		}
		o := otel.Options{KeepOther: true}
		storable(t, otel.Spans(in.Traces(), o), otel.Spans(in.Traces(), o))
	})
}
