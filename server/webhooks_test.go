package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/webhook"
)

// verified is a message that an official library verified.
type verified struct {
	ID      string `json:"id"`
	Payload struct {
		Type      webhook.Type   `json:"type"`
		Timestamp time.Time      `json:"timestamp"`
		Data      map[string]any `json:"data"`
	} `json:"payload"`
}

// webhookReceiver is a program with an official library that receives webhooks.
type webhookReceiver struct {
	mu  sync.Mutex
	all []verified
}

// types counts what was received, by type.
func (r *webhookReceiver) types() map[webhook.Type]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[webhook.Type]int{}
	for _, v := range r.all {
		n[v.Payload.Type]++
	}
	return n
}

// freePort is a port of this machine that nothing listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// receiveWebhooks makes a webhook of every type for a tenant, and starts a program that receives its messages.
func (w *world) receiveWebhooks(key string, cmd *exec.Cmd) (*webhookReceiver, string) {
	w.t.Helper()
	port := freePort(w.t.(*testing.T))
	made := w.want(201, "POST", "/v1/webhooks", key, `{"url": "http://127.0.0.1:`+port+`/", "types": ["*"]}`)
	cmd.Env = append(cmd.Env, "PORT="+port, "SECRET="+made.text("secret"))
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, w.t.Output()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); in.Close() })
	r := &webhookReceiver{}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var v verified
			if json.Unmarshal(lines.Bytes(), &v) == nil {
				r.mu.Lock()
				r.all = append(r.all, v)
				r.mu.Unlock()
			}
		}
	}()
	testkit.Until(w.t, "the receiver listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return r, made.text("webhook", "id")
}

// TestEachTypeIsVerifiedByTheOfficialLibraries has each thing happen that webhooks report, and receives it with the
// official libraries for Python and Node.
func TestEachTypeIsVerifiedByTheOfficialLibraries(t *testing.T) {
	w := serve(t)
	w.work()
	key := w.key(acme, access.Permissions[:len(access.Permissions)-1]...)
	python, id := w.receiveWebhooks(key, testkit.Python(t, testkit.NewestSDKs, "testdata/webhooks/receive.py"))
	node, _ := w.receiveWebhooks(key, testkit.Node(t, testkit.NewestSDKs, "testdata/webhooks/receive.mjs"))
	w.want(202, "POST", "/v1/webhooks/"+id+"/test", key, "")

	tenant := w.k.Tenant(acme)
	agent := tenant.Agent(bot)
	escalation := func(due time.Time) uuid.UUID {
		id, err := agent.LogEscalation(t.Context(), konstruct.Escalation{Reason: "a secret reason",
			Question: "a secret question", Due: due})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	answered := escalation(time.Now().Add(time.Hour))
	escalation(time.Now().Add(-time.Second)) // due at once
	if _, err := tenant.Escalations().Resolve(t.Context(), answered, "ada", "a secret decision"); err != nil {
		t.Fatal(err)
	}
	w.upload(key, "handbook.md", handbook)
	w.made(key, w.want(202, "POST", "/v1/exports", key, `{"format": "jsonl"}`))
	operator := access.LocalOperator(acme, "ada")
	if err := tenant.Record(t.Context(), operator, audit.ActionVerify,
		map[string]any{"made": map[string]any{"holds": true}}); err != nil { // one that holds is not reported
		t.Fatal(err)
	}
	if err := tenant.Record(t.Context(), operator, audit.ActionVerify,
		map[string]any{"made": map[string]any{"holds": false}}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // within an hour, once
		if err := tenant.Webhooks().QuotaRefused(t.Context(), "events"); err != nil {
			t.Fatal(err)
		}
		if err := tenant.Record(t.Context(), operator, audit.ActionNotaryRefused, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := map[webhook.Type]int{webhook.EscalationOpened: 2, webhook.EscalationDue: 1, webhook.EscalationAnswered: 1,
		webhook.IngestFinished: 1, webhook.ExportFinished: 1, webhook.VerificationFailed: 1, webhook.QuotaExceeded: 1,
		webhook.NotaryRefused: 1}
	if len(want) != len(webhook.Types) {
		t.Errorf("this test has %d of %d types", len(want), len(webhook.Types))
	}
	for name, r := range map[string]*webhookReceiver{"Python": python, "Node": node} {
		if name == "Python" {
			want[webhook.Test] = 1
		} else {
			delete(want, webhook.Test)
		}
		missing := func() (all []string) {
			got := r.types()
			for kind, n := range want {
				if got[kind] < n {
					all = append(all, fmt.Sprintf("%s %d of %d", kind, got[kind], n))
				}
			}
			return all
		}
		for end := time.Now().Add(time.Minute); len(missing()) > 0 && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
		if m := missing(); len(m) > 0 {
			t.Errorf("%s misses %v", name, m)
		}
		for kind, n := range r.types() {
			if n > want[kind] {
				t.Errorf("%s got %d of %s, want %d", name, n, kind, want[kind])
			}
		}
		r.mu.Lock()
		for _, v := range r.all {
			if raw, _ := json.Marshal(v.Payload.Data); strings.Contains(string(raw), "secret") ||
				strings.Contains(string(raw), "pump") {
				t.Errorf("%s got content: %s", name, raw)
			}
		}
		r.mu.Unlock()
	}
}

// TestAUsedUpQuotaIsReported, by the refusals of requests, once.
func TestAUsedUpQuotaIsReported(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.EventsRead, access.WebhooksWrite, access.WebhooksRead)
	id := w.want(201, "POST", "/v1/webhooks", key,
		`{"url": "https://example.com/", "types": ["quota.exceeded"]}`).text("webhook", "id")
	if err := w.k.Tenant(acme).SetLimits(t.Context(), access.LocalOperator(acme, "ada"),
		access.Limits{RequestsPerSecond: 2}); err != nil {
		t.Fatal(err)
	}
	for refused := 0; refused < 3; {
		if w.ask("GET", "/v1/me", key, "").StatusCode == 429 {
			refused++
		}
	}
	if err := w.k.Tenant(acme).SetLimits(t.Context(), access.LocalOperator(acme, "ada"),
		access.Limits{}); err != nil {
		t.Fatal(err)
	}
	w.soon("a message of the quota", func() bool {
		r := w.ask("GET", "/v1/webhooks/"+id+"/deliveries", key, "")
		return r.StatusCode == 200 && strings.Count(r.body, `"quota":"requests"`) == 1
	})
}

// TestWebhooksOverHTTP walks through the operations, as their owner, as another tenant and without the permission.
func TestWebhooksOverHTTP(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.WebhooksRead, access.WebhooksWrite)
	theirs := w.key(globex, access.WebhooksRead, access.WebhooksWrite)
	reads, none := w.key(acme, access.WebhooksRead), w.key(acme, access.EventsRead)
	made := w.want(201, "POST", "/v1/webhooks", key,
		`{"url": "https://example.com/hook?token=hidden", "types": ["escalation.opened"], "description": "pager"}`)
	at := "/v1/webhooks/" + made.text("webhook", "id")
	if !strings.HasPrefix(made.text("secret"), "whsec_") {
		t.Error(made.body)
	}
	if r := w.want(200, "GET", at, reads, ""); strings.Contains(r.body, "whsec_") {
		t.Error(r.body)
	}
	sent := w.want(202, "POST", at+"/test", key, "")
	message := at + "/deliveries/" + sent.text("message_id")
	for _, c := range []struct{ method, path, body string }{
		{"GET", at, ""}, {"PATCH", at, `{"description": "x"}`}, {"POST", at + "/rotate", `{"overlap_seconds": 0}`},
		{"POST", at + "/test", ""}, {"GET", at + "/deliveries", ""}, {"GET", message, ""},
		{"POST", message + "/resend", ""}, {"POST", at + "/resend", `{"since": "2026-01-01T00:00:00Z"}`},
		{"DELETE", at, ""},
	} {
		w.want(404, c.method, c.path, theirs, c.body)
		w.want(403, c.method, c.path, none, c.body)
		if c.method != "GET" {
			w.want(403, c.method, c.path, reads, c.body)
		}
	}
	if r := w.want(200, "GET", "/v1/webhooks", theirs, ""); strings.Contains(r.body, "example.com") {
		t.Error(r.body)
	}
	w.want(409, "POST", message+"/resend", key, "") // it is queued
	w.want(422, "POST", at+"/deliveries/msg_1/resend", key, "")
	w.want(422, "POST", "/v1/webhooks", key, `{"url": "https://10.0.0.1/", "types": ["*"]}`)
	w.want(422, "PATCH", at, key, `{"types": ["x"]}`)
	if r := w.want(200, "PATCH", at, key, `{"enabled": false}`); !strings.Contains(r.body, "disabled_reason") {
		t.Error(r.body)
	}
	w.want(409, "POST", at+"/test", key, "")
	if r := w.want(200, "GET", at+"/deliveries?state=dead", reads, ""); !strings.Contains(r.body, `"state":"dead"`) {
		t.Error(r.body)
	}
	w.want(200, "PATCH", at, key, `{"enabled": true}`)
	w.want(202, "POST", message+"/resend", key, "")
	rotated := w.want(201, "POST", at+"/rotate", key, `{"overlap_seconds": 3600}`)
	if rotated.text("secret") == made.text("secret") {
		t.Error("the secret stayed")
	}
	w.want(204, "DELETE", at, key, "")
	w.want(404, "GET", at, key, "")
	actions := w.actionsOf(acme)
	for action, n := range map[string]int{audit.ActionWebhookCreated: 1, audit.ActionWebhookUpdated: 2,
		audit.ActionWebhookRotated: 1, audit.ActionWebhookDeleted: 1, audit.ActionWebhookTested: 1,
		audit.ActionWebhookResent: 1} {
		if actions[action] != n {
			t.Errorf("%d of %s on the trail, want %d", actions[action], action, n)
		}
	}
	if events, err := audit.List(t.Context(), w.k.Door(), acme, audit.Filter{Limit: 100}); err != nil ||
		len(events) == 0 {
		t.Error(err)
	} else if raw, _ := json.Marshal(events); strings.Contains(string(raw), "hidden") {
		t.Error("the trail has the credential in a webhook's URL")
	}
}
