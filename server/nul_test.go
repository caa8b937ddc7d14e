package server_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/audit"
)

// TestWhatPostgreSQLCannotHoldIsRefusedByItsField: a NUL in a text, and a number beyond its numeric.
func TestWhatPostgreSQLCannotHoldIsRefusedByItsField(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	before := w.count(acme, audit.Filter{})
	for _, c := range []struct{ path, body, at string }{
		{"/v1/events", `{"action_type":"%s"}`, "body.action_type"},
		{"/v1/events", `{"action_type":"x","input_summary":"%s"}`, "body.input_summary"},
		{"/v1/events", `{"action_type":"x","metadata":{"a":["%s"]}}`, "body.metadata.a[0]"},
		{"/v1/events", `{"action_type":"x","metadata":{"b":{"%s":1}}}`, "body.metadata.b"},
		{"/v1/events/batch", `{"events":[{"action_type":"x"},{"action_type":"x","user_id":"%s"}]}`,
			"body.events[1].user_id"},
		{"/v1/llm-calls", `{"model":"%s"}`, "body.model"},
		{"/v1/tool-calls", `{"name":"%s"}`, "body.name"},
		{"/v1/escalations", `{"reason":"%s"}`, "body.reason"},
		{"/v1/search", `{"text":"x","where":["metadata.a=%s"]}`, "body.where[0]"},
		{"/v1/search", `{"text":"x","conversation_id":"%s"}`, "body.conversation_id"},
		{"/v1/holds", `{"reason":"%s"}`, "body.reason"},
		{"/v1/holds", `{"reason":"r","user_id":"%s"}`, "body.user_id"},
		{"/v1/uploads", `{"filename":"%s","size":1}`, "body.filename"},
		{"/v1/evidence", `{"metadata":{"a":"%s"}}`, "body.metadata.a"},
		{"/v1/evidence", `{"user_id":"%s"}`, "body.user_id"},
	} {
		if r := w.ask("POST", c.path, key, fmt.Sprintf(c.body, `a\u0000b`)); !r.named(c.at) ||
			strings.Contains(r.body, "the database") {
			t.Errorf("%s %s: %d %s, want %s", c.path, c.body, r.StatusCode, r.body, c.at)
		}
	}
	for path, at := range map[string]string{"/v1/events?meta=a%3D%00": "query.meta",
		"/v1/events?meta=a%3D%22%5Cu0000%22": "query.meta[0]", "/v1/events?user_id=%00": "query.user_id",
		"/v1/events?text=%00": "query.text", "/v1/runs/a%00b": "path", "/v1/events?user_id=%ff": "query.user_id",
		"/v1/events?meta=a%3D%22%5Cud800%22": "query.meta[0]", "/v1/events?meta=x%3D1e-99999999": "query.meta[0]",
		"/v1/events?meta=x%3D1e131072": "query.meta[0]"} {
		if r := w.ask("GET", path, key, ""); !r.named(at) && at != "path" || r.StatusCode >= 500 || r.StatusCode < 400 {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
	for _, number := range []string{"1e-99999999", "1e131072", "1e-16384", "-1e131072", "1e999999999999999999999"} {
		for path, body := range map[string]string{"/v1/events": `{"action_type":"x","metadata":{"a":{"n":%s}}}`,
			"/v1/llm-calls": `{"model":"m","metadata":{"a":{"n":%s}}}`,
			"/v1/uploads":   `{"filename":"f","size":1,"metadata":{"a":{"n":%s}}}`,
			"/v1/evidence":  `{"metadata":{"a":{"n":%s}}}`} {
			if r := w.ask("POST", path, key, fmt.Sprintf(body, number)); !r.named("body.metadata.a.n") {
				t.Errorf("%s %s: %d %s", path, number, r.StatusCode, r.body)
			}
		}
	}
	for _, form := range [][2]string{{"source", "a\x00b"}, {"metadata", `{"a":"\u0000"}`}, {"labels", "\x00"},
		{"metadata", `{"a":1e-16384}`}} {
		var b bytes.Buffer
		f := multipart.NewWriter(&b)
		if part, err := f.CreateFormFile("file", "a.txt"); err == nil {
			_, _ = part.Write([]byte("hello"))
		}
		if err := f.WriteField(form[0], form[1]); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if r := w.ask("POST", "/v1/documents", key, b.String(), "Content-Type",
			f.FormDataContentType()); r.StatusCode != 422 || !strings.Contains(r.body, `"location":"body.`+form[0]) {
			t.Errorf("%q: %d %s", form, r.StatusCode, r.body)
		}
	}
	if n := w.count(acme, audit.Filter{}); n != before {
		t.Errorf("%d events were written", n-before)
	}
	for _, number := range []string{"1e131071", "1e-16383", "-1e-300", "0e5", "0.0001e4", "1e307"} {
		if r := w.ask("POST", "/v1/events", key, `{"action_type":"x","metadata":{"n":`+number+`}}`); strings.Contains(
			number, "131071") == (r.StatusCode == 201) {
			t.Errorf("%s: %d %s", number, r.StatusCode, r.body)
		}
	}
}
