package server_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
)

// TestADefaultLanguageIsOneTenants sets it over HTTP, and sees that no other tenant has it.
func TestADefaultLanguageIsOneTenants(t *testing.T) {
	w := serve(t)
	const at = "/v1/settings/language"
	key, other := w.key(acme), w.key(uuid.New())
	language := func(r reply) string { return r.text("language") }
	for _, key := range []string{key, other} {
		if got := language(w.want(200, "GET", at, key, "")); got != "english" {
			t.Errorf("at first: %q", got)
		}
	}
	for body, want := range map[string]string{`{"language":"de"}`: "german", `{"language":"french"}`: "french",
		`{"language":"auto"}`: "english"} {
		if got := language(w.want(200, "PUT", at, key, body)); got != want {
			t.Errorf("%s: %q", body, got)
		}
	}
	w.want(200, "PUT", at, key, `{"language":"german"}`)
	if got := language(w.want(200, "GET", at, key, "")); got != "german" {
		t.Errorf("after it was set: %q", got)
	}
	if got := language(w.want(200, "GET", at, other, "")); got != "english" {
		t.Errorf("another tenant has %q", got)
	}
	for _, bad := range []string{"klingon", "pg_catalog.german", "' OR 1=1 --", strings.Repeat("x", 41), ""} {
		r := w.want(422, "PUT", at, key, `{"language":"`+bad+`"}`)
		if !strings.Contains(string(r.body), "body.language") {
			t.Errorf("%q: %s", bad, r.body)
		}
	}
	w.want(403, "PUT", at, w.key(acme, access.KBRead), `{"language":"german"}`)
	w.want(403, "GET", at, w.key(acme, access.EventsRead), "")
	w.want(401, "GET", at, "", "")
}
