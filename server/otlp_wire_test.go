package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/server"
)

const asJSON = "application/json"

// body returns an export of spans in protobuf.
func body(t testing.TB, traces ptrace.Traces) []byte {
	t.Helper()
	raw, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// listed returns a tenant's events but those of its keys.
func (w *world) listed(tenant uuid.UUID) (events []audit.StoredEvent) {
	w.t.Helper()
	for e, err := range w.k.Tenant(tenant).Events().All(w.t.Context(), audit.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if !strings.HasPrefix(e.Action, "access_key") {
			events = append(events, *e)
		}
	}
	return events
}

// TestOTLPRefusesAsItsSpecificationSays tries what no client should send: the answers are OTLP's.
func TestOTLPRefusesAsItsSpecificationSays(t *testing.T) {
	w := serve(t)
	writer, reader := w.key(acme, access.EventsWrite), w.key(acme, access.EventsRead)
	good := body(t, llmfake.Spans(1, true))
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 40<<20)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		key, path string
		body      []byte
		headers   []string
		status    int
		code      codes.Code
	}{
		{"no key", "", "/v1/traces", good, nil, 401, codes.Unauthenticated},
		{"no such key", "kst_nobody", "/v1/traces", good, nil, 401, codes.Unauthenticated},
		{"a key that may not write", reader, "/v1/traces", good, nil, 403, codes.PermissionDenied},
		{"Basic where Bearer is", "", "/v1/traces", good,
			[]string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("pk:"+writer))}, 401,
			codes.Unauthenticated},
		{"no password", "", "/api/public/otel/v1/traces", good, []string{"Authorization", "Basic cGs6"}, 401,
			codes.Unauthenticated},
		{"truncated", writer, "/v1/traces", good[:len(good)-3], nil, 400, codes.InvalidArgument},
		{"no protobuf", writer, "/v1/traces", []byte("hello"), nil, 400, codes.InvalidArgument},
		{"no JSON", writer, "/v1/logs", []byte("{"), []string{"Content-Type", asJSON}, 400, codes.InvalidArgument},
		{"two JSON documents", writer, "/v1/traces", []byte(`{"resourceSpans":[]} {"resourceSpans":[]}`),
			[]string{"Content-Type", asJSON}, 400, codes.InvalidArgument},
		{"protobuf that is said to be JSON", writer, "/v1/traces", good, []string{"Content-Type", asJSON}, 400,
			codes.InvalidArgument},
		{"a type of its own", writer, "/v1/traces", good, []string{"Content-Type", "text/plain"}, 415,
			codes.InvalidArgument},
		{"an encoding of its own", writer, "/v1/traces", good, []string{"Content-Encoding", "br"}, 415,
			codes.InvalidArgument},
		{"no gzip", writer, "/v1/traces", good, []string{"Content-Encoding", "gzip"}, 400, codes.InvalidArgument},
		{"40 MB out of 40 kB", writer, "/v1/traces", bomb.Bytes(), []string{"Content-Encoding", "gzip"}, 413,
			codes.InvalidArgument},
		{"a million empty spans", writer, "/v1/traces", empties(1_000_000), nil, 413, codes.InvalidArgument},
	} {
		got, raw := w.export(c.key, c.path, c.body, c.headers...)
		if got != c.status {
			t.Errorf("%s: %d, want %d: %q", c.name, got, c.status, raw)
			continue
		}
		var st struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		if len(c.headers) > 1 && c.headers[1] == asJSON {
			if err := json.Unmarshal(raw, &st); err != nil {
				t.Errorf("%s: %v: %q", c.name, err, raw)
			}
		} else {
			var m rpc.Status
			if err := proto.Unmarshal(raw, &m); err != nil {
				t.Errorf("%s: %v: %q", c.name, err, raw)
			}
			st.Code, st.Message = int(m.GetCode()), m.GetMessage()
		}
		if codes.Code(st.Code) != c.code || st.Message == "" {
			t.Errorf("%s: code %v, %q", c.name, codes.Code(st.Code), st.Message)
		}
	}
	if events := w.listed(acme); len(events) != 0 {
		t.Errorf("%d events are of what was refused", len(events))
	}
	if got, raw := w.export("", "/api/public/otel/v1/traces", good, "Authorization",
		"Basic "+base64.StdEncoding.EncodeToString([]byte("pk-lf-any:"+writer))); got != 200 || len(raw) != 0 {
		t.Errorf("Basic with the key as password: %d %q", got, raw)
	}
	if got, raw := w.export(writer, "/v1/metrics", []byte{}); got != 200 || len(raw) != 0 {
		t.Errorf("metrics: %d %q", got, raw)
	}
	if n := strings.Count(w.log.String(), "accepted and dropped"); n != 1 {
		t.Errorf("the log says %d times that metrics are dropped", n)
	}
}

// empties returns an export of n spans without anything.
func empties(n int) []byte {
	spans := bytes.Repeat([]byte{0x12, 0x00}, n) // ScopeSpans.spans: a message of no bytes
	wrap := func(tag byte, b []byte) []byte {
		return append(append([]byte{tag}, varint(len(b))...), b...)
	}
	return wrap(0x0a, wrap(0x12, spans))
}

func varint(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// TestGRPCRefusesAsItsSpecificationSays holds gRPC's codes, and that a refused stranger's message is not read.
func TestGRPCRefusesAsItsSpecificationSays(t *testing.T) {
	w := serve(t)
	c, err := grpc.NewClient(w.serveOTLP(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := ptraceotlp.NewExportRequestFromTraces(llmfake.Spans(1, true))
	for want, key := range map[codes.Code]string{codes.Unauthenticated: "kst_nobody",
		codes.PermissionDenied: w.key(acme, access.EventsRead)} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
		if _, err := ptraceotlp.NewGRPCClient(c).Export(ctx, in); status.Code(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
	key := w.key(acme, access.EventsWrite)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
	many := ptrace.NewTraces()
	scoped := many.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for range 200_000 {
		scoped.Spans().AppendEmpty()
	}
	_, err = ptraceotlp.NewGRPCClient(c).Export(ctx, ptraceotlp.NewExportRequestFromTraces(many))
	if code := status.Code(err); code != codes.InvalidArgument {
		t.Errorf("200,000 spans: %v", err)
	}
	if _, err := ptraceotlp.NewGRPCClient(c).Export(ctx, in); err != nil {
		t.Errorf("after what was refused: %v", err)
	}
}

// TestAnExportIsTriedAgain holds that a client over its rate is told when to try again: over HTTP by 429 with
// Retry-After, over gRPC by ResourceExhausted with RetryInfo.
func TestAnExportIsTriedAgain(t *testing.T) {
	w := serve(t, func(c *server.Config) {
		c.DefaultLimits = access.DefaultLimits
		c.DefaultLimits.RequestsPerSecond = 3
	})
	key := w.key(acme, access.EventsWrite)
	addr := w.serveOTLP()
	export := body(t, llmfake.Spans(3, true))
	if got, raw := w.export(key, "/v1/traces", export); got != 200 {
		t.Fatalf("%d %q", got, raw)
	}
	var limited *http.Response
	for range 20 {
		r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/v1/traces", bytes.NewReader(export))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-protobuf")
		r.Header.Set("Authorization", "Bearer "+key)
		if limited, err = http.DefaultClient.Do(r); err != nil {
			t.Fatal(err)
		}
		_ = limited.Body.Close()
		if limited.StatusCode == 429 {
			break
		}
	}
	if limited.StatusCode != 429 || limited.Header.Get("Retry-After") == "" {
		t.Errorf("over its rate a tenant gets %d, Retry-After %q", limited.StatusCode,
			limited.Header.Get("Retry-After"))
	}
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
	for range 20 {
		if _, err = ptraceotlp.NewGRPCClient(c).Export(ctx,
			ptraceotlp.NewExportRequestFromTraces(llmfake.Spans(1, true))); err != nil {
			break
		}
	}
	st, _ := status.FromError(err)
	if st.Code() != codes.ResourceExhausted || len(st.Details()) != 1 {
		t.Fatalf("over its rate: %v with %d details", err, len(st.Details()))
	}
	if retry, is := st.Details()[0].(*errdetails.RetryInfo); !is || retry.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("over its rate: %v", st.Details()[0])
	}
}

// TestTenantsSpansStayApart sends one export as two tenants: each has its own events, and neither the other's.
func TestTenantsSpansStayApart(t *testing.T) {
	w := serve(t)
	export := body(t, llmfake.Spans(8, true))
	for _, tenant := range []uuid.UUID{acme, globex} {
		key := w.key(tenant, access.EventsWrite)
		for range 2 {
			if got, raw := w.export(key, "/v1/traces", export, "X-Tenant", globex.String()); got != 200 {
				t.Fatalf("%d %q", got, raw)
			}
		}
	}
	for _, tenant := range []uuid.UUID{acme, globex} {
		events := w.listed(tenant)
		if len(events) != 8 {
			t.Errorf("tenant %s has %d events", tenant, len(events))
		}
		for _, e := range events {
			if e.Action != audit.ActionLLMCall { // no further report: the other tenant's are not seen
				t.Errorf("tenant %s has a %s", tenant, e.Action)
			}
		}
	}
	if events := w.listed(uuid.New()); len(events) != 0 {
		t.Errorf("another tenant sees %d events", len(events))
	}
}

// TestAKeyOfAnAgentWritesAsThatAgent holds that a span's own agent does not count where the key is bound to one.
func TestAKeyOfAnAgentWritesAsThatAgent(t *testing.T) {
	w := serve(t)
	key := w.keyOf(acme, access.KeyRequest{Name: "bot", Permissions: []access.Permission{access.EventsWrite},
		Agent: bot})
	if got, raw := w.export(key, "/v1/traces", body(t, llmfake.Spans(2, true))); got != 200 {
		t.Fatalf("%d %q", got, raw)
	}
	for _, e := range w.listed(acme) {
		if e.AgentID == nil || *e.AgentID != bot {
			t.Errorf("an event is of agent %v", e.AgentID)
		}
	}
}

// TestHostileSpansAreStoredAsFarAsTheyCanBe sends what no SDK should, and looks at what is on the trail.
func TestHostileSpansAreStoredAsFarAsTheyCanBe(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.EventsWrite)
	traces := ptrace.NewTraces()
	var n byte
	span := func(service string, change func(ptrace.Span)) {
		of := traces.ResourceSpans().AppendEmpty()
		of.Resource().Attributes().PutStr("service.name", service)
		s := of.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		n++
		s.SetTraceID(pcommon.TraceID{1, 2, 3, n})
		s.SetSpanID(pcommon.SpanID{4, 5, n})
		s.SetName("chat")
		s.Attributes().PutStr("gen_ai.operation.name", "chat")
		change(s)
	}
	span("invalid UTF-8", func(s ptrace.Span) {
		s.Attributes().PutStr("gen_ai.prompt", "a\xff\x00b")
		s.Attributes().PutStr("\xffname", "x")
		s.Attributes().PutStr("user.id", "u\x00\xfe")
	})
	span("ten megabytes", func(s ptrace.Span) {
		s.Attributes().PutStr("gen_ai.completion", strings.Repeat("x", 10<<20))
		s.Attributes().PutStr("mine", strings.Repeat("y", 10<<20))
	})
	span("100,000 attributes", func(s ptrace.Span) {
		many := map[string]any{"gen_ai.operation.name": "chat"}
		for i := range 100_000 {
			many[fmt.Sprintf("attribute.%d", i)] = int64(i)
		}
		if err := s.Attributes().FromRaw(many); err != nil {
			t.Fatal(err)
		}
	})
	span("wrong types", func(s ptrace.Span) {
		s.Attributes().PutStr("gen_ai.usage.input_tokens", "12")
		s.Attributes().PutDouble("gen_ai.usage.output_tokens", math.NaN())
		s.Attributes().PutBool("gen_ai.request.model", true)
		s.Attributes().PutEmptyMap("gen_ai.response.id").PutInt("x", 1)
		s.Attributes().PutEmptyBytes("gen_ai.tool.name").FromRaw([]byte{0, 255})
		s.Attributes().PutStr("gen_ai.input.messages", `[{"role":1,"parts":7},3,null]`)
		s.Attributes().PutStr("konstruct.escalation.id", "forged")
		s.Attributes().PutEmptyMap("nested").PutStr("konstruct.by", "forged")
	})
	span("deep", func(s ptrace.Span) {
		v := s.Attributes().PutEmptySlice("deep")
		for range 40 {
			v = v.AppendEmpty().SetEmptySlice()
		}
		s.Attributes().PutStr("gen_ai.output.messages", strings.Repeat("[", 9000)+strings.Repeat("]", 9000))
	})
	span("zero ids", func(s ptrace.Span) {
		s.SetTraceID(pcommon.TraceID{})
		s.SetSpanID(pcommon.SpanID{})
	})
	span("its own parent", func(s ptrace.Span) { s.SetParentSpanID(s.SpanID()) })
	span("a clock years off", func(s ptrace.Span) {
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)))
		s.SetEndTimestamp(5)
	})
	span("no calendar has it", func(s ptrace.Span) {
		s.SetStartTimestamp(math.MaxUint64)
		s.SetEndTimestamp(math.MaxUint64)
	})
	export := body(t, traces)
	for range 2 {
		if got, raw := w.export(key, "/v1/traces", export); got != 200 || len(raw) != 0 {
			t.Fatalf("%d %q", got, raw)
		}
	}
	events := w.listed(acme)
	if len(events) != int(n) {
		t.Fatalf("%d spans, sent twice, are %d events", n, len(events))
	}
	of := map[string]audit.StoredEvent{}
	for _, e := range events {
		var m struct {
			Service string `json:"service.name"`
		}
		if err := json.Unmarshal(e.Metadata, &m); err != nil {
			t.Fatal(err)
		}
		of[m.Service] = e
	}
	for service, want := range map[string]string{
		"invalid UTF-8":      "\"konstruct.altered\": [\"input_summary\", \"user_id\", \"\ufffdname\"]",
		"ten megabytes":      `[cut: 10485760 bytes, sha256 `,
		"100,000 attributes": `"konstruct.omitted_attributes": 99000`,
		"wrong types":        `"_konstruct.escalation.id": "forged"`,
		"no calendar has it": `"start_time_unix_nano": 18446744073709551615`,
	} {
		if e, there := of[service]; !there || !strings.Contains(string(e.Metadata), want) {
			t.Errorf("%s: no %s in %.600s", service, want, e.Metadata)
		}
	}
	if e := of["invalid UTF-8"]; e.Input == nil || *e.Input != "a\ufffd\ufffdb" {
		t.Errorf("the input is not what was sent with two U+FFFD: %s", e.Metadata)
	}
	if s := string(of["wrong types"].Metadata); !strings.Contains(s, `"gen_ai.usage.input_tokens": 12,`) ||
		strings.Contains(s, `"gen_ai.usage.output_tokens"`) || strings.Contains(s, ` "konstruct.by"`) {
		t.Errorf("wrong types: %s", s)
	}
}

// TestCallsInOneSpanStayApart logs three calls within an agent's span, whose id their records have, before that span
// and after it.
func TestCallsInOneSpanStayApart(t *testing.T) {
	w := serve(t)
	for _, agentFirst := range []bool{true, false} {
		tenant := uuid.New()
		key := w.key(tenant, access.EventsWrite)
		const ids = `"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"`
		agent := `{"resourceSpans":[{"scopeSpans":[{"spans":[{` + ids + `,"name":"invoke_agent","attributes":[` +
			`{"key":"gen_ai.operation.name","value":{"stringValue":"invoke_agent"}},` +
			`{"key":"parent_span_id","value":{"stringValue":"ffffffffffffffff"}},` +
			`{"key":"konstruct.altered","value":{"stringValue":"forged"}},` +
			`{"key":"x","value":{"intValue":1}},{"key":"x","value":{"intValue":2}}]}]}]}]}`
		send := func(path, body string) {
			t.Helper()
			if got, raw := w.export(key, path, []byte(body), "Content-Type", asJSON); got != 200 ||
				string(raw) != "{}" {
				t.Fatalf("%d %s", got, raw)
			}
		}
		if agentFirst {
			send("/v1/traces", agent)
		}
		var records []string
		for i := range 3 {
			records = append(records, fmt.Sprintf(`{%s,"timeUnixNano":"179603583%d000000000",`+
				`"eventName":"gen_ai.client.inference.operation.details","attributes":[`+
				`{"key":"gen_ai.response.id","value":{"stringValue":"r%d"}},`+
				`{"key":"gen_ai.usage.input_tokens","value":{"intValue":%d}},`+
				`{"key":"gen_ai.usage.input_tokens","value":{"intValue":7}},`+
				`{"key":"gen_ai.usage.output_tokens","value":{"intValue":20}}]}`, ids, i, i, 100+i))
		}
		logs := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[` + strings.Join(records, ",") + `]}]}]}`
		send("/v1/logs", logs)
		send("/v1/logs", logs)
		if !agentFirst {
			send("/v1/traces", agent)
		}
		got := w.landed(tenant, 303, 60)
		if got[audit.ActionLLMCall] != 3 || got["agent_run"] != 1 || len(got) != 2 {
			t.Errorf("the agent first %v: %v", agentFirst, got)
		}
		run, err := w.k.Tenant(tenant).Events().Run(t.Context(), "0102030405060708090a0b0c0d0e0f10")
		if err != nil || agentFirst && (len(run.Steps) != 1 || len(run.Steps[0].Steps) != 3) {
			t.Errorf("%v: %d roots", err, len(run.Steps))
		}
		for _, e := range w.listed(tenant) {
			if e.Action == "agent_run" && (!strings.Contains(string(e.Metadata), `"_parent_span_id": "ffff`) ||
				!strings.Contains(string(e.Metadata), `"_konstruct.altered": "forged"`) ||
				!strings.Contains(string(e.Metadata), `"x": 1,`) ||
				!strings.Contains(string(e.Metadata), `"konstruct.altered": ["`)) {
				t.Errorf("%s", e.Metadata)
			}
		}
	}
}

// TestTheMemoryOfExportsStaysFlat sends the largest exports that are taken, many at once.
func TestTheMemoryOfExportsStaysFlat(t *testing.T) {
	w := serve(t, func(c *server.Config) { c.RequestMemory = server.MinRequestMemory })
	key := w.key(acme, access.EventsWrite)
	traces := ptrace.NewTraces()
	scoped := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for range 10_000 {
		s := scoped.Spans().AppendEmpty()
		for i := range 40 { // of other kinds, which are dropped: what is measured is the reading
			s.Attributes().PutEmptySlice(fmt.Sprint(i)).AppendEmpty()
		}
	}
	export := body(t, traces)
	traces = ptrace.Traces{}
	var peak uint64
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			time.Sleep(5 * time.Millisecond)
		}
	})
	var senders sync.WaitGroup
	var taken, later int
	var mu sync.Mutex
	for range 12 {
		senders.Go(func() {
			got, _ := w.export(key, "/v1/traces", export)
			mu.Lock()
			defer mu.Unlock()
			switch got {
			case 200:
				taken++
			case 429, 503:
				later++
			default:
				t.Errorf("answered %d", got)
			}
		})
	}
	senders.Wait()
	stop()
	watching.Wait()
	if taken == 0 || taken+later != 12 {
		t.Errorf("%d taken, %d told to try again", taken, later)
	}
	t.Logf("%d taken, %d told to try again, %d MiB of heap at most", taken, later, peak>>20)
	if most := uint64(1200 << 20); peak > most {
		t.Errorf("the heap grew to %d MiB", peak>>20)
	}
}
