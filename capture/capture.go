// Package capture tries the ways by which agents reach a service: it sends one span, one log record, one call through
// the gateway and one through the MCP proxy, and looks what landed on the trail. It is a client like any other.
package capture

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Config says which service is tried, and how.
type Config struct {
	URL   string // of the service
	Key   string // with events:write; with events:read too, what landed is read back
	Model string // of the call through the gateway, which may cost a token; empty: the first that the gateway lists
	MCP   []string
	HTTP  *http.Client // nil: http.DefaultClient
}

// Check is what became of one way.
type Check struct {
	Way    string   `json:"way"`             // key, span, log, openai, anthropic, or mcp and the server's name
	OK     bool     `json:"ok"`              // what was sent landed
	Unset  bool     `json:"unset,omitempty"` // the service does not have this way
	Detail string   `json:"detail"`          // what was found, or why not and what to do
	Trace  string   `json:"trace_id,omitempty"`
	Events []string `json:"events,omitempty"` // types of the events that landed
}

// maxAnswer is the size of an answer that is read, in bytes.
const maxAnswer = 1 << 20

// wait is how long an event may take to be readable: it is committed before the answer, and streams end after it.
const wait = 2 * time.Second

type doctor struct {
	c     Config
	http  *http.Client
	reads bool // the key may read events
	calls bool // the key may use the gateway and the MCP proxy
}

// Try tries each way in turn.
func Try(ctx context.Context, c Config) []Check {
	d := &doctor{c: c, http: c.HTTP}
	d.c.URL = strings.TrimSuffix(c.URL, "/")
	if d.http == nil {
		d.http = http.DefaultClient
	}
	key := d.key(ctx)
	if !key.OK {
		return []Check{key}
	}
	all := []Check{key, d.span(ctx), d.log(ctx), d.gateway(ctx, "openai"), d.gateway(ctx, "anthropic")}
	for _, name := range c.MCP {
		all = append(all, d.mcp(ctx, name))
	}
	return all
}

// send sends a request and returns the status and the answer.
func (d *doctor) send(ctx context.Context, method, path string, body any, headers ...string) (int, []byte, error) {
	var r io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, d.c.URL+path, r)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+d.c.Key)
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := d.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	return answer.StatusCode, raw, err
}

// key looks whose key it is and what it may do.
func (d *doctor) key(ctx context.Context) Check {
	status, raw, err := d.send(ctx, http.MethodGet, "/v1/me", nil)
	if err != nil {
		return Check{Way: "key",
			Detail: fmt.Sprintf("no answer: %v: is the service running at %s (--url, KONSTRUCT_URL)?",
				err, d.c.URL)}
	}
	var me struct {
		Tenant      string   `json:"tenant_id"`
		Permissions []string `json:"permissions"`
	}
	if status != http.StatusOK || json.Unmarshal(raw, &me) != nil {
		return Check{Way: "key", Detail: refused(status, raw)}
	}
	may := " " + strings.Join(me.Permissions, " ") + " "
	d.reads, d.calls = strings.Contains(may, " events:read "), strings.Contains(may, " gateway:use ")
	if !strings.Contains(may, " events:write ") {
		return Check{Way: "key", Detail: "it may not write events: make one with --permission events:write"}
	}
	detail := "of tenant " + me.Tenant
	if !d.reads {
		detail += "; without events:read it can't read back what landed"
	}
	return Check{Way: "key", OK: true, Detail: detail}
}

// refused says why a request was refused.
func refused(status int, raw []byte) string {
	text := strings.Join(strings.Fields(string(raw)), " ")
	return fmt.Sprintf("answered %d: %.300s", status, text)
}

// ids returns a new trace id and span id, in hex.
func ids() (trace, span string) {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:16]), hex.EncodeToString(b[16:])
}

// attribute is one of OTLP's JSON encoding.
func attribute(name, value string) map[string]any {
	return map[string]any{"key": name, "value": map[string]any{"stringValue": value}}
}

var resource = map[string]any{"attributes": []any{attribute("service.name", "konstruct capture doctor")}}

// span sends a span as OpenTelemetry's SDKs do.
func (d *doctor) span(ctx context.Context) Check {
	trace, span := ids()
	now := time.Now()
	status, raw, err := d.send(ctx, http.MethodPost, "/v1/traces", map[string]any{"resourceSpans": []any{map[string]any{
		"resource": resource, "scopeSpans": []any{map[string]any{"spans": []any{map[string]any{"traceId": trace,
			"spanId": span, "name": "execute_tool doctor", "kind": 1,
			"startTimeUnixNano": fmt.Sprint(now.Add(-time.Millisecond).UnixNano()),
			"endTimeUnixNano":   fmt.Sprint(now.UnixNano()), "attributes": []any{
				attribute("gen_ai.operation.name", "execute_tool"), attribute("gen_ai.tool.name", "doctor"),
				attribute("gen_ai.tool.call.arguments", "a span of konstruct capture doctor")}}}}}}}})
	return d.landed(ctx, "span", trace, status, raw, err)
}

// log sends a log record of a model's call, as the GenAI conventions have it.
func (d *doctor) log(ctx context.Context) Check {
	trace, _ := ids() // of no span, which it would wait for
	status, raw, err := d.send(ctx, http.MethodPost, "/v1/logs", map[string]any{"resourceLogs": []any{map[string]any{
		"resource": resource, "scopeLogs": []any{map[string]any{"logRecords": []any{map[string]any{"traceId": trace,
			"timeUnixNano": fmt.Sprint(time.Now().UnixNano()),
			"eventName":    "gen_ai.client.inference.operation.details", "attributes": []any{
				attribute("gen_ai.operation.name", "chat"), attribute("gen_ai.request.model", "none"),
				attribute("gen_ai.output.messages", `[{"role":"assistant","parts":[{"type":"text",`+
					`"content":"a log record of konstruct capture doctor"}]}]`)}}}}}}}})
	return d.landed(ctx, "log", trace, status, raw, err)
}

// gateway makes a call of one token through the gateway of a vendor's API.
func (d *doctor) gateway(ctx context.Context, vendor string) Check {
	if !d.calls {
		return Check{Way: vendor, Unset: true, Detail: "not tried: the key has no gateway:use"}
	}
	model := d.c.Model
	status, raw, err := d.send(ctx, http.MethodGet, "/"+vendor+"/v1/models", nil)
	if err == nil && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) {
		return Check{Way: vendor, Unset: true, Detail: "the service has no such upstream (KONSTRUCT_GATEWAY_FILE)"}
	}
	if err == nil && status == http.StatusOK && model == "" {
		var list struct {
			Data []struct {
				ID string `json:"id"`
			} `json:"data"`
		}
		if json.Unmarshal(raw, &list) == nil && len(list.Data) > 0 {
			model = list.Data[0].ID
		}
		if model == "" {
			return Check{Way: vendor, Unset: true, Detail: "the gateway lists no model of it (KONSTRUCT_GATEWAY_FILE)"}
		}
	}
	if err != nil || status != http.StatusOK {
		return d.landed(ctx, vendor, "", status, raw, err)
	}
	trace, span := ids()
	path, body := "/openai/v1/chat/completions", map[string]any{"model": model, "max_completion_tokens": 1}
	if vendor == "anthropic" {
		path, body = "/anthropic/v1/messages", map[string]any{"model": model, "max_tokens": 1}
	}
	body["messages"] = []any{map[string]any{"role": "user", "content": "Say yes."}}
	status, raw, err = d.send(ctx, http.MethodPost, path, body, "traceparent", "00-"+trace+"-"+span+"-01",
		"anthropic-version", "2023-06-01")
	return d.landed(ctx, vendor, trace, status, raw, err)
}

// authorized adds the key to a client's requests.
type authorized struct {
	key  string
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+a.key)
	return a.next.RoundTrip(r)
}

// mcp calls a tool that no server has, through the proxy: the server's refusal is the result that lands.
func (d *doctor) mcp(ctx context.Context, name string) Check {
	way := "mcp " + name
	if !d.calls {
		return Check{Way: way, Detail: "the key has no gateway:use"}
	}
	trace, span := ids()
	next := d.http.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "konstruct capture doctor", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: d.c.URL + "/mcp/proxy/" +
		url.PathEscape(name), HTTPClient: &http.Client{Transport: authorized{d.c.Key, next}}}, nil)
	if err != nil {
		return Check{Way: way, Detail: fmt.Sprintf("no connection: %.300v (KONSTRUCT_MCP_SERVERS_FILE names servers)",
			err)}
	}
	defer session.Close()
	_, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "konstruct_capture_doctor",
		Meta: mcp.Meta{"traceparent": "00-" + trace + "-" + span + "-01"}})
	if errors.Is(err, context.DeadlineExceeded) {
		return Check{Way: way, Detail: "no answer: " + err.Error()}
	}
	return d.landed(ctx, way, trace, http.StatusOK, nil, nil)
}

// landed reads what a trace has on the trail.
func (d *doctor) landed(ctx context.Context, way, trace string, status int, raw []byte, err error) Check {
	c := Check{Way: way, Trace: trace}
	switch {
	case err != nil:
		c.Detail = "no answer: " + err.Error()
		return c
	case status >= http.StatusMultipleChoices:
		c.Detail = refused(status, raw)
		return c
	case !d.reads:
		c.OK, c.Detail = true, "accepted; konstruct audit run shows it to who may read"
		return c
	}
	for end := time.Now().Add(wait); ; {
		status, raw, err := d.send(ctx, http.MethodGet, "/v1/runs/"+trace, nil)
		var run struct {
			Steps []struct {
				ID     string `json:"id"`
				Action string `json:"action_type"`
			} `json:"steps"`
		}
		if err == nil && status == http.StatusOK && json.Unmarshal(raw, &run) == nil && len(run.Steps) > 0 {
			for _, s := range run.Steps {
				c.Events = append(c.Events, s.Action)
			}
			c.OK, c.Detail = true, fmt.Sprintf("%s is event %s", run.Steps[0].Action, run.Steps[0].ID)
			return c
		}
		if time.Now().After(end) || ctx.Err() != nil {
			c.Detail = "accepted, but the trail does not have it: " + refused(status, raw)
			return c
		}
		time.Sleep(100 * time.Millisecond)
	}
}
