package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

// TestWhatIsNotStoredAsItWasSentIsRefused sends what a decoder would put right without a word, wherever text enters by
// JSON.
func TestWhatIsNotStoredAsItWasSentIsRefused(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	for _, c := range []struct{ method, path, body, at string }{
		{"POST", "/v1/events", `{"action_type":"x","input_summary":"%s"}`, "body.input_summary"},
		{"POST", "/v1/events", `{"action_type":"%s"}`, "body.action_type"},
		{"POST", "/v1/events", `{"action_type":"x","metadata":{"a":[1,{"b":"%s"}]}}`, "body.metadata.a[1].b"},
		{"POST", "/v1/events/batch", `{"events":[{"action_type":"x"},{"action_type":"x","output_summary":"%s"}]}`,
			"body.events[1].output_summary"},
		{"POST", "/v1/llm-calls", `{"model":"m","prompt":"%s"}`, "body.prompt"},
		{"POST", "/v1/tool-calls", `{"name":"n","arguments":"%s"}`, "body.arguments"},
		{"POST", "/v1/escalations", `{"reason":"%s"}`, "body.reason"},
		{"POST", "/v1/search", `{"text":"%s"}`, "body.text"},
		{"POST", "/v1/documents/from-url", `{"url":"http://example.com/","labels":["%s"]}`, "body.labels[0]"},
		{"POST", "/v1/uploads", `{"filename":"%s","size":1}`, "body.filename"},
		{"POST", "/v1/keys", `{"name":"%s"}`, "body.name"},
		{"POST", "/v1/holds", `{"reason":"%s"}`, "body.reason"},
		{"POST", "/v1/evidence", `{"user_id":"%s"}`, "body.user_id"},
	} {
		for name, text := range map[string]string{"not UTF-8": "caf\xe9", "half a pair": `a\ud800b`} {
			if r := w.ask(c.method, c.path, key, fmt.Sprintf(c.body, text)); r.StatusCode != 422 ||
				!strings.Contains(r.body, `"location":"`+c.at+`"`) {
				t.Errorf("%s %s, %s: %d %s, want %s", c.method, c.path, name, r.StatusCode, r.body, c.at)
			}
		}
	}
	for body, at := range map[string]string{
		`{"action_type":"x","Action_Type":"y"}`:                      "body",
		`{"Action_Type":"y"}`:                                        "body.Action_Type",
		`{"action_type":"x","metadata":{"n":1e400}}`:                 "body.metadata.n",
		`{"action_type":"x","latency_ms":1e400}`:                     "body.latency_ms",
		`{"action_type":"x","\u0061ction_type":"y"}`:                 "body",
		`{"action_type":"x","metadata":{"a":1,"\u0061":2}}`:          "body.metadata",
		`{"action_type":"x","metadata":{"konstruct.document.id":1}}`: "body.metadata",
	} {
		if r := w.ask("POST", "/v1/events", key, body); r.StatusCode < 400 || r.StatusCode > 422 ||
			!strings.Contains(r.body, at) {
			t.Errorf("%s: %d %s, want %s", body, r.StatusCode, r.body, at)
		}
		if r := w.ask("POST", "/v1/events/batch", key, `{"events":[`+body+`]}`); r.StatusCode < 400 ||
			r.StatusCode > 422 {
			t.Errorf("in a batch, %s: %d %s", body, r.StatusCode, r.body)
		}
	}
	if n := w.count(acme, audit.Filter{}); n != 1 { // the key's own
		t.Errorf("%d events were written", n)
	}
}

// TestEveryBadEventOfABatchIsNamed: those that can't be decoded, and those that can't be logged.
func TestEveryBadEventOfABatchIsNamed(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	for body, want := range map[string][]string{
		`{"events":[{"action_type":"x","latency_ms":-1},{"action_type":"x"},{"action_type":"x","nothing":1}]}`: {
			"body.events[0].latency_ms", "body.events[2]"},
		`{"events":[{"action_type":""},{"action_type":"x"},{"action_type":"access_key_made"}]}`: {
			"body.events[0].action_type", "body.events[2].action_type"},
	} {
		r := w.want(422, "POST", "/v1/events/batch", key, body)
		for _, at := range want {
			if !strings.Contains(r.body, `"location":"`+at) {
				t.Errorf("%s: %s is not named: %s", body, at, r.body)
			}
		}
	}
}

// TestWhatTheServiceWritesIsReserved: who may log events can't say in its name what it does.
func TestWhatTheServiceWritesIsReserved(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.EventsWrite)
	before := w.count(acme, audit.Filter{})
	for _, action := range []string{"access_key_made", "access_tenant_switched", "evidence_export",
		"trail_verification", "audit_gap", "document_removed", "escalation_resolved", "notary_resume",
		"guard_installed", "law_request", "erasure", "compliance_request"} {
		w.want(422, "POST", "/v1/events", key, `{"action_type":"`+action+`"}`)
		w.want(422, "POST", "/v1/events/batch", key, `{"events":[{"action_type":"`+action+`"}]}`)
	}
	for _, metadata := range []string{`{"konstruct.retrieval.top_k":5}`, `{"a":{"konstruct.document_id":1}}`,
		`{"gen_ai.retrieval.documents":[{"konstruct.content_sha256":"x"}]}`, `{"\u006bonstruct.x":1}`} {
		w.want(422, "POST", "/v1/events", key, `{"action_type":"retrieval","metadata":`+metadata+`}`)
		w.want(422, "POST", "/v1/llm-calls", key, `{"model":"m","metadata":`+metadata+`}`)
	}
	if n := w.count(acme, audit.Filter{}); n != before {
		t.Errorf("%d were written", n-before)
	}
	w.want(201, "POST", "/v1/events", key,
		`{"action_type":"retrieval","input_summary":"konstruct.","metadata":{"text":"konstruct.document_id",`+
			`"gen_ai.retrieval.documents":[]}}`)
	w.want(201, "POST", "/v1/events", key, `{"action_type":"gap"}`) // a name of the agent's own
}

// TestWhatIsWrongInAnAddressIsSaidOfTheAddress and not of a body that there is none of.
func TestWhatIsWrongInAnAddressIsSaidOfTheAddress(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	for _, path := range []string{"/v1/events?after=-9223372036854775808_01a22a29-171b-74a3-aa62-42dde65c7492",
		"/v1/escalations?after=-210866803200000001_01a22a29-171b-74a3-aa62-42dde65c7492",
		"/v1/events?after=xyz", "/v1/escalations?after=xyz", "/v1/events?limit=5000",
		"/v1/documents?after=xyz", "/v1/jobs?after=xyz"} {
		if r := w.ask("GET", path, key, ""); r.StatusCode != 422 || strings.Contains(r.body, "body.") ||
			!strings.Contains(r.body, "query.") {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
}

// TestAFormHoldsWhatItMayAndNoMore: a field that is none would be passed over, and a label that is meant would be lost.
func TestAFormHoldsWhatItMayAndNoMore(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	form := func(fields ...string) reply {
		var b bytes.Buffer
		f := multipart.NewWriter(&b)
		part, err := f.CreateFormFile("file", "a.txt")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write([]byte("hello"))
		for i := 0; i < len(fields); i += 2 {
			if err := f.WriteField(fields[i], fields[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		return w.ask("POST", "/v1/documents", key, b.String(), "Content-Type", f.FormDataContentType())
	}
	for _, c := range []struct {
		fields []string
		at     string
	}{
		{[]string{"label", "legal"}, "body.label"}, {[]string{"Labels", "legal"}, "body.Labels"},
		{[]string{"source", "http://a.example/", "source", "http://b.example/"}, "body.source"},
		{[]string{"labels", "caf\xe9"}, "body.labels"}, {[]string{"metadata", `{"a":"\ud800"}`}, "body.metadata.a"},
		{[]string{"metadata", `{"a":1e400}`}, "body.metadata.a"},
	} {
		if r := form(c.fields...); r.StatusCode != 422 || !strings.Contains(r.body, `"location":"`+c.at+`"`) {
			t.Errorf("%q: %d %s", c.fields, r.StatusCode, r.body)
		}
	}
	if r := form("labels", "legal", "labels", "finance"); r.StatusCode != 202 {
		t.Errorf("two labels: %d %s", r.StatusCode, r.body)
	}
}

// TestAListThatHoldsNothingIsAList asks every operation that needs no more than an address, of a tenant that has
// nothing, and holds each answer against its description: where that says array there is one.
func TestAListThatHoldsNothingIsAList(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	raw, err := w.s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ In string }
			Responses  map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
		Components struct{ Schemas map[string]map[string]any }
	}
	if err := json.Unmarshal(raw, &api); err != nil {
		t.Fatal(err)
	}
	for name, schema := range api.Components.Schemas {
		properties, _ := schema["properties"].(map[string]any)
		for field, p := range properties {
			types, _ := p.(map[string]any)["type"].([]any)
			for _, typ := range types {
				if typ == "array" {
					t.Errorf("%s.%s may be null instead of a list", name, field)
				}
			}
		}
	}
	var hold func(at string, schema map[string]any, v any)
	hold = func(at string, schema map[string]any, v any) {
		if ref, _ := schema["$ref"].(string); ref != "" {
			hold(at, api.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")], v)
			return
		}
		if schema["type"] == "array" && v == nil {
			t.Errorf("%s is null, and no list", at)
		}
		items, _ := schema["items"].(map[string]any)
		if list, is := v.([]any); is && items != nil {
			for _, one := range list {
				hold(at+"[]", items, one)
			}
		}
		properties, _ := schema["properties"].(map[string]any)
		if object, is := v.(map[string]any); is {
			for name, value := range object {
				if p, known := properties[name].(map[string]any); known {
					hold(at+"."+name, p, value)
				}
			}
		}
	}
	asked := 0
	look := func(method, path, body string) {
		op := api.Paths[path][strings.ToLower(method)]
		r := w.ask(method, path, key, body)
		var v any
		if r.StatusCode >= 300 || json.Unmarshal([]byte(r.body), &v) != nil {
			return
		}
		asked++
		hold(method+" "+path, op.Responses[fmt.Sprint(r.StatusCode)].Content["application/json"].Schema, v)
	}
	for path, methods := range api.Paths {
		if _, is := methods["get"]; is && !strings.Contains(path, "{") && !strings.HasSuffix(path, "/stream") {
			look("GET", path, "")
		}
	}
	for path, body := range map[string]string{"/v1/search": `{"text":"nothing"}`,
		"/v1/search/batch": `{"questions":[{"text":"nothing"}]}`, "/v1/keys": `{"name":"k"}`,
		"/v1/retention/run": `{"reason":"r","try":true}`} {
		look("POST", path, body)
	}
	if asked < 15 {
		t.Errorf("only %d operations answered", asked)
	}
}
