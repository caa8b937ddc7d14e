package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/server"
)

// export sends a body to a path of OTLP/HTTP, and returns the status and the answer.
func (w *world) export(key, path string, body []byte, headers ...string) (int, []byte) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "POST", w.url+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, raw
}

// truth is what a recorded case's provider knows.
type truth struct {
	Calls      []provided `json:"llm_calls"`
	Embeddings []provided `json:"embeddings"`
}

// provided is one answer of the provider.
type provided struct {
	Status       int   `json:"status"`
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
	UsageSent    *bool `json:"usage_sent"` // null: yes
	// Exported and UsageExported are false where the SDK does not report the call, or its usage. Null: it does.
	Exported      *bool `json:"exported"`
	UsageExported *bool `json:"usage_exported"`
}

// withoutEmbeddings are cases whose instrumentation does not report what embeddings used, or reports none.
var withoutEmbeddings = map[string]int{"openinference/llamaindex_query": 2, "openinference/langchain_agent": 0}

// recordings returns the files of each recorded case, and the provider's truth.
func recordings(t testing.TB) (cases map[string][]string, truths map[string]truth) {
	t.Helper()
	all, err := filepath.Glob("../otel/testdata/exports/*/*.expect.json")
	if err != nil || len(all) < 10 {
		t.Fatalf("%d recorded cases: %v", len(all), err)
	}
	cases, truths = map[string][]string{}, map[string]truth{}
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var want truth
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		name := strings.TrimSuffix(path, ".expect.json")
		files, err := filepath.Glob(name + ".*.*")
		if err != nil {
			t.Fatal(err)
		}
		short := strings.TrimPrefix(name, "../otel/testdata/exports/")
		for _, f := range files {
			if strings.HasSuffix(f, ".pb") || strings.HasSuffix(f, ".traces.json") || strings.HasSuffix(f,
				".logs.json") {
				cases[short] = append(cases[short], f)
			}
		}
		truths[short] = want
	}
	return cases, truths
}

// mappedFile returns the mapped records of a recorded export.
func mappedFile(t testing.TB, file string) iter.Seq[otel.Mapped] {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(asProto, asJSON func([]byte) error) {
		if strings.HasSuffix(file, ".json") {
			asProto = asJSON
		}
		if err := asProto(raw); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if strings.Contains(file, ".traces.") {
		in := ptraceotlp.NewExportRequest()
		decode(in.UnmarshalProto, in.UnmarshalJSON)
		return otel.Spans(in.Traces(), otel.Options{})
	}
	in := plogotlp.NewExportRequest()
	decode(in.UnmarshalProto, in.UnmarshalJSON)
	return otel.Logs(in.Logs(), otel.Options{})
}

// sendRecording sends a recorded export as its SDK did.
func (w *world) sendRecording(key, file string) {
	w.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	path, kind := "/v1/logs", "application/x-protobuf"
	if strings.Contains(file, ".traces.") {
		path = "/v1/traces"
	}
	if strings.HasSuffix(file, ".json") {
		kind = "application/json"
	}
	if status, answer := w.export(key, path, raw, "Content-Type", kind); status != 200 {
		w.t.Fatalf("%s: %d %q", file, status, answer)
	}
}

// TestTokensStandOnce holds what each real SDK's export says in the statistics against the provider's own total: in the
// order in which the SDK sent, in the reverse, and with all sent twice.
func TestTokensStandOnce(t *testing.T) {
	w := serve(t, func(c *server.Config) { c.ReportWait = time.Nanosecond })
	cases, truths := recordings(t)
	for name, files := range cases {
		for order, arrange := range map[string]func([]string) []string{
			"as sent": func(f []string) []string { return f },
			"reversed": func(f []string) []string {
				f = slices.Clone(f)
				slices.Reverse(f)
				return f
			},
			"twice": func(f []string) []string { return append(slices.Clone(f), f...) },
		} {
			t.Run(name+"/"+order, func(t *testing.T) {
				tenant := uuid.New()
				key := w.key(tenant, access.EventsWrite)
				for _, f := range arrange(files) {
					w.sendRecording(key, f)
				}
				w.logDue(w.k.Trail(), tenant)
				var calls, in, out int64
				known := append(slices.Clone(truths[name].Calls), truths[name].Embeddings...)
				if n, is := withoutEmbeddings[name]; is {
					known = truths[name].Calls
					calls += int64(n)
				}
				for _, c := range known {
					if c.Status < 400 && (c.Exported == nil || *c.Exported) {
						calls++
						if (c.UsageSent == nil || *c.UsageSent) && (c.UsageExported == nil || *c.UsageExported) {
							in, out = in+c.InputTokens, out+c.OutputTokens
						}
					}
				}
				stats, err := w.k.Tenant(tenant).Events().Stats(t.Context(), audit.StatsFilter{By: []string{"action"}})
				if err != nil {
					t.Fatal(err)
				}
				var all audit.Stats
				for _, s := range stats {
					all.InputTokens, all.OutputTokens = all.InputTokens+s.InputTokens, all.OutputTokens+s.OutputTokens
					if *s.Action == audit.ActionLLMCall {
						all.Events, all.Errors = s.Events, s.Errors
					}
				}
				if all.InputTokens != in || all.OutputTokens != out || all.Events-all.Errors != calls {
					t.Errorf("the trail has %d calls (%d failed), %d+%d tokens; the provider answered %d, %d+%d",
						all.Events, all.Errors, all.InputTokens, all.OutputTokens, calls, in, out)
				}
			})
		}
	}
}

// TestARunIsItsTrace holds the tree of a run against the parents of the spans that were sent, where the log records
// came first and where the spans did, and its statistics against the provider's total.
func TestARunIsItsTrace(t *testing.T) {
	w := serve(t)
	cases, truths := recordings(t)
	const name = "claude-code/subagent"
	for _, reversed := range []bool{false, true} {
		tenant := uuid.New()
		key := w.key(tenant, access.EventsWrite)
		files := slices.Clone(cases[name])
		if reversed {
			slices.Reverse(files)
		}
		for _, f := range files {
			w.sendRecording(key, f)
		}
		events, err := w.k.Tenant(tenant).Events().List(t.Context(), audit.Filter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var session struct {
			ID string `json:"gen_ai.conversation.id"`
		}
		events = slices.DeleteFunc(events, func(e audit.StoredEvent) bool { return e.Action == audit.ActionKeyCreated })
		if err := json.Unmarshal(events[0].Metadata, &session); err != nil || session.ID == "" {
			t.Fatalf("the first event has no session: %v %s", err, events[0].Metadata)
		}
		run, err := w.k.Tenant(tenant).Events().Run(t.Context(), session.ID)
		if err != nil {
			t.Fatal(err)
		}
		if run.Events != len(events) {
			t.Errorf("the run has %d of %d events", run.Events, len(events))
		}
		spans := 0
		var walk func(above string, steps []*audit.Step)
		walk = func(above string, steps []*audit.Step) {
			for _, s := range steps {
				var m struct {
					Span   string `json:"span_id"`
					Parent string `json:"parent_span_id"`
				}
				if err := json.Unmarshal(s.Metadata, &m); err != nil {
					t.Fatal(err)
				}
				if m.Parent != "" && s.Action != otel.ActionDetails {
					if spans++; m.Parent != above {
						t.Errorf("%s of span %q is below %q; its parent is %s", s.Action, m.Span, above, m.Parent)
					}
				}
				if m.Span == "" {
					m.Span = above
				}
				walk(m.Span, s.Steps)
			}
		}
		walk("", run.Steps)
		if spans < 4 {
			t.Errorf("the run has %d spans with a parent", spans)
		}
		stats, err := w.k.Tenant(tenant).Events().Stats(t.Context(), audit.StatsFilter{Run: session.ID})
		if err != nil || len(stats) != 1 {
			t.Fatalf("%d groups: %v", len(stats), err)
		}
		var in, out int64
		for _, c := range truths[name].Calls {
			in, out = in+c.InputTokens, out+c.OutputTokens
		}
		if stats[0].InputTokens != in || stats[0].OutputTokens != out || stats[0].ReportedCost == nil {
			t.Errorf("the run has %d+%d tokens and cost %v; the provider's total is %d+%d", stats[0].InputTokens,
				stats[0].OutputTokens, stats[0].ReportedCost, in, out)
		}
	}
}

// TestOTLPIsTakenInEveryEncoding sends one export in each encoding and over gRPC: they are one event.
func TestOTLPIsTakenInEveryEncoding(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.EventsWrite)
	raw, err := os.ReadFile("../otel/testdata/exports/openai-v2/span-only-tools.1.traces.pb")
	if err != nil {
		t.Fatal(err)
	}
	in := ptraceotlp.NewExportRequest()
	if err := in.UnmarshalProto(raw); err != nil {
		t.Fatal(err)
	}
	asJSON, err := in.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var gz, zs bytes.Buffer
	z := gzip.NewWriter(&gz)
	if _, err := z.Write(raw); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	zw, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zw.Write(asJSON); err != nil || zw.Close() != nil {
		t.Fatal(err)
	}
	const pb, js = "application/x-protobuf", "application/json"
	for _, c := range []struct {
		path, kind, encoding string
		body                 []byte
	}{{"/v1/traces", pb, "", raw}, {"/v1/traces", js, "", asJSON}, {"/v1/traces", pb, "gzip", gz.Bytes()},
		{"/v1/traces", js, "zstd", zs.Bytes()}, {"/api/public/otel/v1/traces", pb, "gzip", gz.Bytes()}} {
		if status, answer := w.export(key, c.path, c.body, "Content-Type", c.kind, "Content-Encoding",
			c.encoding); status != 200 || c.kind == js && string(answer) != "{}" {
			t.Errorf("%s %s %s: %d %q", c.path, c.kind, c.encoding, status, answer)
		}
	}
	addr := w.serveOTLP()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
	if _, err := ptraceotlp.NewGRPCClient(c).Export(ctx, in, grpc.UseCompressor("gzip")); err != nil {
		t.Fatal(err)
	}
	if _, err := plogotlp.NewGRPCClient(c).Export(ctx, plogotlp.NewExportRequest()); err != nil {
		t.Fatal(err)
	}
	events, err := w.k.Tenant(acme).Events().List(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range events {
		if e.Action == audit.ActionLLMCall {
			n++
		}
	}
	if n != 2 {
		t.Errorf("two calls, sent six times, are %d events", n)
	}
}

// serveOTLP serves OTLP over gRPC until the test ends, and returns its address.
func (w *world) serveOTLP() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.s.RunOTLP(ctx, l, nil) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	return l.Addr().String()
}
