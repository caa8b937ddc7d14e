package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
	"github.com/konstruct/konstruct/toolrule"
)

// withPolicy opens the library again, with a policy.
func withPolicy(t *testing.T, d *testkit.DB, raw string) func(*server.Config) {
	return func(c *server.Config) {
		t.Helper()
		p, err := audit.ParsePolicy([]byte(raw), pepper)
		if err != nil {
			t.Fatal(err)
		}
		k, err := konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app"),
			AssetsDir: devpg.AssetsDir(), KeySecret: pepper, Policy: p, SpoolDir: t.TempDir(), Logger: c.Logger})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		c.Konstruct = k
	}
}

func TestEachKeyGetsItsTenantsRulesOnTools(t *testing.T) {
	d := testkit.Database(t)
	w := serveOn(t, d, withPolicy(t, d, `{"tenants":{"`+acme.String()+`":{"tools":[
		{"server":"github","tool":"delete_*","arguments":{"/path":"*.env"},"action":"ask","to":"ops"}]}}}`))
	r := w.want(200, "GET", "/v1/tool-rules", w.key(acme, access.EventsWrite), "")
	if want := `{"tenant_id":"` + acme.String() + `","tools":[{"server":"github","tool":"delete_*",` +
		`"arguments":{"/path":"*.env"},"action":"ask","to":"ops"}]}`; strings.TrimSpace(r.body) != want {
		t.Errorf("%s, want %s", r.body, want)
	}
	etag := r.Header.Get("ETag")
	w.want(304, "GET", "/v1/tool-rules", w.key(acme, access.EventsWrite), "", "If-None-Match", etag)
	other := w.want(200, "GET", "/v1/tool-rules", w.key(globex, access.EventsWrite), "", "If-None-Match", etag)
	if other.Header.Get("ETag") == etag || len(other.field("tools").([]any)) != 0 {
		t.Errorf("another tenant gets %s", other.body)
	}
	w.want(403, "GET", "/v1/tool-rules", w.key(acme, access.EventsRead), "")
	w.want(401, "GET", "/v1/tool-rules", "kst_forged", "")
}

func TestAnAgentLearnsWhatAPersonDecided(t *testing.T) {
	w := serve(t)
	agent, person := w.key(acme, access.EventsWrite), w.key(acme, access.EscalationsWrite, access.EventsRead)
	id := w.want(201, "POST", "/v1/escalations", agent, `{"reason":"delete .env","to":"ops"}`).text("id")
	if r := w.want(200, "GET", "/v1/escalations/"+id, agent, ""); r.text("state") != "open" || r.text("to") != "ops" {
		t.Errorf("%s", r.body)
	}
	// Who may not see it.
	w.want(404, "GET", "/v1/escalations/"+id, w.key(globex), "")
	w.want(404, "GET", "/v1/escalations/"+uuid.NewString()+"?wait=1", agent, "")
	w.want(404, "GET", "/v1/escalations/"+id,
		w.keyOf(acme, access.KeyRequest{Agent: bot, Permissions: []access.Permission{access.EventsWrite}}), "")
	w.want(403, "GET", "/v1/escalations/"+id, w.key(acme, access.KBRead), "")
	w.want(401, "GET", "/v1/escalations/"+id, "kst_forged", "")
	w.want(422, "GET", "/v1/escalations/"+id+"?wait=9", agent, "")
	// Nobody answers: the request ends with the state as it is.
	begin := time.Now()
	if r := w.want(200, "GET", "/v1/escalations/"+id+"?wait=1", agent, ""); r.text("state") != "open" ||
		time.Since(begin) < time.Second {
		t.Errorf("after %v: %s", time.Since(begin), r.body)
	}
	answer := make(chan reply, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v1/escalations/"+id+"?wait=8", nil)
		if err != nil {
			t.Error(err)
		}
		r.Header.Set("Authorization", "Bearer "+agent)
		answer <- w.do(r)
	}()
	time.Sleep(300 * time.Millisecond)
	w.want(201, "POST", "/v1/escalations/"+id+"/acknowledge", person, "")
	w.want(201, "POST", "/v1/escalations/"+id+"/resolve", person, `{"decision":"allow"}`)
	select {
	case r := <-answer:
		if r.text("state") != "resolved" || r.text("decision") != "allow" || r.text("resolved_by") != "a test" {
			t.Errorf("%s", r.body)
		}
	case <-time.After(10 * time.Second):
		t.Error("the request doesn't end with the answer")
	}
}

func TestAnAgentCancelsItsOwnQuestionAndApprovesNothing(t *testing.T) {
	w := serve(t)
	agent := w.key(acme, access.EventsWrite)
	id := w.want(201, "POST", "/v1/escalations", agent, `{"reason":"delete .env"}`).text("id")
	at := "/v1/escalations/" + id
	w.want(403, "POST", at+"/resolve", agent, `{"decision":"allow"}`)
	w.want(404, "POST", at+"/cancel", w.key(globex), `{"reason":"x"}`)
	w.want(404, "POST", at+"/cancel", w.keyOf(acme, access.KeyRequest{Agent: bot,
		Permissions: []access.Permission{access.EventsWrite}}), `{"reason":"x"}`)
	w.want(403, "POST", at+"/cancel", w.key(acme, access.EventsRead), `{"reason":"x"}`)
	w.want(401, "POST", at+"/cancel", "kst_forged", `{"reason":"x"}`)
	w.want(201, "POST", at+"/cancel", agent, `{"reason":"allow"}`)
	if r := w.want(200, "GET", at, agent, ""); r.text("decision") != "cancelled: allow" ||
		toolrule.Approves(r.text("decision")) {
		t.Errorf("%s", r.body)
	}
	w.want(409, "POST", at+"/resolve", w.key(acme), `{"decision":"allow"}`)
}
