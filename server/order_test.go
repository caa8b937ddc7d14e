package server_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestADocumentDeletedOverHTTPStaysAway: of what was uploaded before the deletion, whole or in pieces, nothing comes
// back, and the job says why; what is uploaded after it is ingested.
func TestADocumentDeletedOverHTTPStaysAway(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	begun := func() string {
		return w.want(201, "POST", "/v1/uploads", key, fmt.Sprintf(`{"filename":"a.md","size":%d}`, len(handbook)+1)).
			Header.Get("Location")
	}
	send := func(at string) {
		if r := w.ask("PATCH", at, key, handbook+"3", "Content-Type", "application/octet-stream", "Upload-Offset",
			"0"); r.StatusCode != 204 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	first := w.upload(key, "a.md", handbook)
	w.work()
	at := w.taken(key, first)
	pieces, older := begun(), begun()
	send(pieces)
	w.want(200, "DELETE", at, key, "")
	overtaken := func(r reply, why string) {
		t.Helper()
		w.soon("it is cancelled", func() bool {
			return w.want(200, "GET", r.Header.Get("Location"), key, "").text("state") == "cancelled"
		})
		if job := w.want(200, "GET", r.Header.Get("Location"), key, ""); !strings.Contains(job.text("reason"), why) {
			t.Errorf("job: %s", job.body)
		}
	}
	overtaken(w.want(202, "POST", pieces+"/finish", key, ""), "deleted after it was uploaded")
	if docs := w.want(200, "GET", "/v1/documents", key, ""); len(docs.items()) != 0 {
		t.Errorf("it is back: %s", docs.body)
	}
	again := w.taken(key, w.upload(key, "a.md", handbook+"2"))
	send(older)
	overtaken(w.want(202, "POST", older+"/finish", key, ""), "newer upload")
	if d := w.want(200, "GET", again, key, ""); d.field("version") != 1.0 {
		t.Errorf("the older one replaced it: %s", d.body)
	}
	last := begun()
	send(last)
	if same := w.taken(key, w.want(202, "POST", last+"/finish", key, "")); same != again {
		t.Errorf("ingested as %s, not %s", same, again)
	}
}
