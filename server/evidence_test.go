package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
)

// made waits until what was asked for is made.
func (w *world) made(key string, r reply) reply {
	w.t.Helper()
	at := r.Header.Get("Location")
	var got reply
	w.soon("it is made", func() bool { got = w.want(200, "GET", at, key, ""); return got.text("state") != "open" })
	return got
}

// TestEvidenceIsMadeAndVerifiedByAStranger: bundles, exports, proofs, receipts, checkpoints.
func TestEvidenceIsMadeAndVerifiedByAStranger(t *testing.T) {
	var name string
	w := serve(t, func(c *server.Config) { name = c.Notary.File })
	key := w.key(acme)
	var at string
	for i := range 20 {
		at = w.want(201, "POST", "/v1/events", key, fmt.Sprintf(`{"action_type":"x","input_summary":"event %d"}`, i)).
			Header.Get("Location")
	}
	w.want(409, "GET", at+"/proof", key, "") // nothing is signed yet
	receipt := w.want(200, "GET", at+"/receipt", key, "")
	w.sign(name)
	if p := w.want(200, "GET", at+"/proof?withhold=input_summary", key, ""); !strings.HasPrefix(p.body,
		"c2sp.org/tlog-proof") || strings.Contains(p.body, "event 19") {
		t.Errorf("proof: %.200s", p.body)
	}
	checked, err := json.Marshal(map[string]string{"receipt": receipt.body})
	if err != nil {
		t.Fatal(err)
	}
	if p := w.want(200, "POST", "/v1/receipts/check", key, string(checked)); p.field("kept") != true {
		t.Errorf("receipt: %s", p.body)
	}
	w.want(404, "POST", "/v1/receipts/check", w.key(globex), string(checked))
	w.want(422, "POST", "/v1/receipts/check", key, `{"receipt":"no"}`)
	if c := w.want(200, "GET", "/v1/log/checkpoint", key, ""); !strings.Contains(c.body, acme.String()) {
		t.Errorf("checkpoint: %s", c.body)
	}
	w.want(200, "GET", "/v1/log/tile/0/000.p/21", key, "")
	w.want(404, "GET", "/v1/log/tile/9/999", key, "")
	verifier := w.want(200, "GET", "/v1/notary", key, "").text("key")

	bundle := w.made(key, w.want(202, "POST", "/v1/evidence", key, `{"action_type":"x"}`))
	if bundle.text("state") != "done" {
		t.Fatalf("bundle: %s", bundle.body)
	}
	zip := w.want(200, "GET", bundle.text("content"), key, "")
	// In ranges, as a download that is gone on with.
	var parts bytes.Buffer
	for parts.Len() < len(zip.body) {
		part := w.ask("GET", bundle.text("content"), key, "", "Range",
			fmt.Sprintf("bytes=%d-%d", parts.Len(), parts.Len()+999))
		if part.StatusCode != http.StatusPartialContent {
			t.Fatalf("a range: %d", part.StatusCode)
		}
		parts.WriteString(part.body)
	}
	if parts.String() != zip.body {
		t.Error("the ranges are not the file")
	}
	w.want(404, "GET", bundle.text("content"), w.key(globex), "")
	result, err := evidence.Command{Bundle: writeFile(t, zip.body), Key: verifier}.Run()
	if err != nil || !result.OK() || result.Matching != 20 {
		t.Errorf("a stranger finds %+v, %v", result, err)
	}

	for _, format := range []string{"jsonl", "csv", "parquet", "ocsf", "cloudevents"} {
		e := w.made(key, w.want(202, "POST", "/v1/exports", key, `{"format":"`+format+`","action_type":"x"}`))
		if e.field("made", "events") != 20.0 {
			t.Errorf("%s: %s", format, e.body)
		}
		w.want(200, "GET", e.text("content"), key, "")
	}
	w.want(422, "POST", "/v1/exports", key, `{}`)
	if v := w.made(key, w.want(202, "POST", "/v1/verifications", key, `{}`)); v.field("made", "holds") != true {
		t.Errorf("verification: %s", v.body)
	}
	w.want(204, "DELETE", bundle.Request.URL.Path, key, "")
	w.want(404, "GET", bundle.Request.URL.Path, key, "")
	for _, action := range []string{audit.ActionEvidence, audit.ActionExport, audit.ActionProof, audit.ActionVerify} {
		if w.count(acme, audit.Filter{Action: action}) == 0 {
			t.Errorf("no %s on the trail", action)
		}
	}
}

// TestATaskIsGoneOnWithAfterARestart of the process that made it.
func TestATaskIsGoneOnWithAfterARestart(t *testing.T) {
	one := serve(t)
	key := one.key(acme)
	one.s.Close() // it takes requests, and makes nothing any more
	r := one.want(202, "POST", "/v1/exports", key, `{"format":"jsonl"}`)
	two := serveOn(t, one.d)
	if done := two.made(key, r); done.text("state") != "done" {
		t.Errorf("made elsewhere: %s", done.body)
	}
}

func TestTheLawIsDoneOverHTTP(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	r := w.want(201, "POST", "/v1/events", key, `{"action_type":"x","user_id":"ada","input_summary":"private"}`)
	hold := w.want(201, "POST", "/v1/holds", key, `{"reason":"case 1","user_id":"ada"}`)
	erase := `{"reason":"ticket 2","user_id":"ada","fields":["input_summary"]}`
	w.want(409, "POST", "/v1/erasures", key, erase)
	w.want(404, "POST", "/v1/holds/"+hold.text("id")+"/release", w.key(globex), `{"reason":"r"}`)
	w.want(200, "POST", "/v1/holds/"+hold.text("id")+"/release", key, `{"reason":"closed"}`)
	if e := w.want(200, "POST", "/v1/erasures", key, erase); e.field("events") != 1.0 {
		t.Errorf("erased: %s", e.body)
	}
	if e := w.want(200, "GET", r.Header.Get("Location"), key, ""); strings.Contains(e.body, "private") ||
		!strings.Contains(e.body, `"erased":["input_summary"]`) {
		t.Errorf("after it: %s", e.body)
	}
	w.want(422, "PUT", "/v1/retention", key, `{"reason":"r","days":1}`)
	w.want(200, "PUT", "/v1/retention", key, `{"reason":"r","days":365}`)
	if l := w.want(200, "GET", "/v1/retention", key, ""); len(l.items()) != 1 || l.field("floor_days") != 184.0 {
		t.Errorf("rules: %s", l.body)
	}
	if run := w.want(200, "POST", "/v1/retention/run", key,
		`{"reason":"r","try":true}`); run.field("deleted_events") != 0.0 {
		t.Errorf("a trial: %s", run.body)
	}
	w.want(204, "PUT", "/v1/settings/two-people", key, `{"reason":"policy 7"}`)
	w.want(200, "POST", "/v1/erasures", key, strings.Replace(erase, "input_summary", "user_id", 1))
	waiting := w.want(200, "GET", "/v1/erasures", key, "").items()
	if len(waiting) != 1 {
		t.Fatalf("waiting: %v", waiting)
	}
	request, _ := waiting[0].(map[string]any)
	w.want(403, "POST", fmt.Sprintf("/v1/erasures/%s/approve", request["id"]), key, `{"reason":"r"}`) // the same role
	w.want(204, "POST", fmt.Sprintf("/v1/erasures/%s/decline", request["id"]), key, `{"reason":"r"}`)
	w.want(404, "POST", "/v1/erasures/"+uuid.NewString()+"/decline", key, `{"reason":"r"}`)
	if w.count(acme, audit.Filter{Action: audit.ActionComplianceRequest}) == 0 {
		t.Error("nothing says who asked")
	}
}

// TestAReceiptsCheckShowsNoDatabaseErrors takes a right away that the check needs: the caller's receipt is not at
// fault, and what the database says is for the operator.
func TestAReceiptsCheckShowsNoDatabaseErrors(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	at := w.want(201, "POST", "/v1/events", key, `{"action_type":"x"}`).Header.Get("Location")
	body, err := json.Marshal(map[string]string{"receipt": w.want(200, "GET", at+"/receipt", key, "").body})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Owner(t, w.d, `REVOKE SELECT ON audit_keys FROM konstruct_notary`)
	if r := w.want(500, "POST", "/v1/receipts/check", key, string(body)); strings.Contains(r.body, "audit_keys") {
		t.Errorf("it shows a database error: %s", r.body)
	}
}
