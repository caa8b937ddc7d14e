package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

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

// TestADisconnectedClientDoesNotMakeTheServiceUnready asks /readyz, disconnects while the check waits for a lock, and
// asks again.
func TestADisconnectedClientDoesNotMakeTheServiceUnready(t *testing.T) {
	w := serve(t)
	super := testkit.Connect(t, w.d.SuperuserURL())
	tx, err := testkit.Connect(t, w.d.SuperuserURL()).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE audit_seals IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ctx, disconnect := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", w.url+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		ended <- err
	}()
	w.soon("the check waits", func() bool {
		var waits bool
		err := super.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks
			WHERE relation = 'audit_seals'::regclass AND NOT granted)`).Scan(&waits)
		return err == nil && waits
	})
	disconnect()
	if err := <-ended; err == nil {
		t.Fatal("the client did not disconnect")
	}
	time.Sleep(200 * time.Millisecond) // so that the service notices
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.want(200, "GET", "/readyz", "", "")
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
