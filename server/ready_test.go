package server_test

import (
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/server"
)

// TestReadyzAndVerificationsSayWhatIsInNoLog seals events that can't enter the log.
func TestReadyzAndVerificationsSayWhatIsInNoLog(t *testing.T) {
	var notaryKey string
	w := serve(t, func(c *server.Config) { notaryKey = c.Notary.File })
	key := w.key(acme)
	w.want(201, "POST", "/v1/events", key, `{"action_type":"tool_invocation"}`)
	w.want(200, "GET", "/readyz", "", "") // not due yet
	w.sign(notaryKey)
	testkit.Owner(t, w.d, `ALTER TABLE audit_seals ALTER COLUMN epoch SET DEFAULT 7`)
	w.want(201, "POST", "/v1/events", key, `{"action_type":"tool_invocation"}`)
	if v := w.made(key, w.want(202, "POST", "/v1/verifications", key, `{}`)); v.field("made", "holds") != false ||
		!strings.Contains(v.body, "claim epoch 7") {
		t.Errorf("a verification: %s", v.body)
	}
	again := serveOn(t, w.d) // which has not looked yet
	if r := again.ask("GET", "/readyz", "", ""); r.StatusCode != 503 ||
		!strings.Contains(r.body, "sealed events are not in the log in time") {
		t.Errorf("readyz: %d %s", r.StatusCode, r.body)
	}
}

// TestAVerificationLooksAtTheAnchor has the whole database be behind what was signed.
func TestAVerificationLooksAtTheAnchor(t *testing.T) {
	outside := notary.FileAnchor(t.TempDir() + "/checkpoint")
	w := serve(t, func(c *server.Config) { c.Anchor = outside })
	key := w.key(acme)
	w.want(201, "POST", "/v1/events", key, `{"action_type":"tool_invocation"}`)
	if v := w.made(key, w.want(202, "POST", "/v1/verifications", key, `{}`)); v.field("made", "holds") != true {
		t.Errorf("nothing was signed yet: %s", v.body)
	}
	if _, err := outside.Swap(t.Context(), "", "of another log\n"); err != nil {
		t.Fatal(err)
	}
	if v := w.made(key, w.want(202, "POST", "/v1/verifications", key, `{}`)); v.field("made", "holds") != false ||
		!strings.Contains(v.body, "the anchor's checkpoint") {
		t.Errorf("a copy of another log: %s", v.body)
	}
}
