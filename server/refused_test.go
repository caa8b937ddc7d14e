package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/audit"
)

// named reports whether a problem names a field.
func (r reply) named(at string) bool {
	return r.StatusCode == 422 && strings.Contains(r.body, `"location":"`+at+`"`)
}

// TestZeroValuesAreRefused: Go's zero time and zero UUID stand for "missing", so storing them would replace what was
// sent.
func TestZeroValuesAreRefused(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	before := w.count(acme, audit.Filter{})
	const zero = "00000000-0000-0000-0000-000000000000"
	for field, values := range map[string][]string{
		"created_at": {"0001-01-01T00:00:00Z", "0000-06-01T00:00:00Z", "0001-01-01T00:00:00.0000009Z",
			"0001-01-01T00:30:00+01:00", "9999-12-31T23:59:59-01:00"},
		"agent_id": {zero}, "id": {zero},
	} {
		for _, value := range values {
			for path, body := range map[string]string{"/v1/events": `{"action_type":"x",%s}`,
				"/v1/llm-calls": `{"model":"m",%s}`, "/v1/tool-calls": `{"name":"n",%s}`,
				"/v1/escalations": `{"reason":"r",%s}`} {
				sent := fmt.Sprintf(body, fmt.Sprintf("%q:%q", field, value))
				if r := w.ask("POST", path, key, sent); !r.named("body." + field) {
					t.Errorf("%s %s: %d %s", path, sent, r.StatusCode, r.body)
				}
			}
			sent := fmt.Sprintf(`{"events":[{"action_type":"x"},{"action_type":"x",%q:%q}]}`, field, value)
			if r := w.ask("POST", "/v1/events/batch", key, sent); !r.named("body.events[1]." + field) {
				t.Errorf("%s: %d %s", sent, r.StatusCode, r.body)
			}
		}
	}
	for _, c := range []struct{ method, path, body, at string }{
		{"POST", "/v1/search", `{"text":"x","agent_id":"` + zero + `"}`, "body.agent_id"},
		{"POST", "/v1/keys", `{"name":"x","permissions":["kb:read"],"agent_id":"` + zero + `"}`, "body.agent_id"},
		{"POST", "/v1/keys", `{"name":"x","permissions":["kb:read"],"expires_at":"0001-01-01T00:00:00Z"}`,
			"body.expires_at"},
		{"POST", "/v1/exports", `{"format":"csv","agent_id":"` + zero + `"}`, "body.agent_id"},
		{"POST", "/v1/exports", `{"format":"csv","since":"0001-01-01T00:00:00Z"}`, "body.since"},
		{"POST", "/v1/documents/from-url", `{"url":"http://example.com/","agent_id":"` + zero + `"}`,
			"body.agent_id"},
		{"GET", "/v1/events?agent_id=" + zero, "", "query.agent_id"},
		{"GET", "/v1/stats?agent_id=" + zero, "", "query.agent_id"},
		{"GET", "/v1/events?until=0001-01-01T00:00:00Z", "", "query.until"},
	} {
		if r := w.ask(c.method, c.path, key, c.body); !r.named(c.at) {
			t.Errorf("%s %s: %d %s", c.path, c.body, r.StatusCode, r.body)
		}
	}
	if n := w.count(acme, audit.Filter{}); n != before {
		t.Errorf("%d events were written", n-before)
	}
	w.want(201, "POST", "/v1/events", key, `{"action_type":"x","created_at":"0001-01-01T00:00:00.000001Z"}`)
	w.want(201, "POST", "/v1/events", key, `{"action_type":"x","created_at":"9999-12-31T23:59:59.999999Z"}`)
}
