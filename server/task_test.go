package server_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestAResumedTaskIsItsMakers makes an export as if its process had been killed, and has somebody else poll it.
func TestAResumedTaskIsItsMakers(t *testing.T) {
	w := serve(t)
	maker, poller := w.keyOf(acme, access.KeyRequest{Name: "maker"}), w.keyOf(acme, access.KeyRequest{Name: "poller"})
	created := w.want(202, "POST", "/v1/exports", maker, `{"format":"jsonl","action_type":"x"}`)
	if done := w.made(maker, created); strings.Contains(done.body, "maker") ||
		!strings.Contains(done.body, `"action_type":"x"`) {
		t.Errorf("the task: %s", done.body)
	}
	testkit.Owner(t, w.d, `SET app.current_tenant = '`+acme.String()+`';
		UPDATE artifact_files SET state = 'open', worker = NULL, until = NULL`)
	w.made(poller, created)
	exports := 0
	for e, err := range w.k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: audit.ActionExport}) {
		if err != nil {
			t.Fatal(err)
		}
		if exports++; *e.UserID != "maker" || !strings.Contains(string(e.Metadata), "(maker)") {
			t.Errorf("an export of %s: %s", *e.UserID, e.Metadata)
		}
	}
	if exports != 2 {
		t.Errorf("%d exports on the trail", exports)
	}
}

// TestPollingAnOpenTaskStartsItOnce polls a task whose claim waits for a lock.
func TestPollingAnOpenTaskStartsItOnce(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	created := w.want(202, "POST", "/v1/exports", key, `{"format":"jsonl"}`)
	w.made(key, created)
	testkit.Owner(t, w.d, `SET app.current_tenant = '`+acme.String()+`';
		UPDATE artifact_files SET state = 'open', worker = NULL, until = NULL`)
	tx, err := testkit.Connect(t, w.d.SuperuserURL()).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM artifact_files FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	poll := func(n int) {
		for range n {
			w.want(200, "GET", created.Header.Get("Location"), key, "")
		}
	}
	poll(3)
	before := runtime.NumGoroutine()
	poll(60)
	if more := runtime.NumGoroutine() - before; more > 30 {
		t.Errorf("60 polls started %d goroutines", more)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.made(key, created)
}
