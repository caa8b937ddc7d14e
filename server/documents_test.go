package server_test

import (
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

const handbook = "# Returns\n\nA pump is sent back within thirty days. Pack it dry.\n\n# Warranty\n\nThe impeller is " +
	"covered for two years.\n"

// work ingests what is enqueued, until the test ends.
func (w *world) work() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.k.RunWorker(ctx, konstruct.WorkerConfig{WorkerURL: w.d.URL("konstruct_worker")}) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			w.t.Error(err)
		}
	})
}

// upload sends a file as a form.
func (w *world) upload(key, filename, content string, fields ...string) reply {
	w.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	part, err := form.CreateFormFile("file", filename)
	if err == nil {
		_, err = part.Write([]byte(content))
	}
	for i := 0; i < len(fields) && err == nil; i += 2 {
		err = form.WriteField(fields[i], fields[i+1])
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), "POST", w.url+"/v1/documents", &b)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return w.do(r)
}

// taken waits until a job has taken its document in, and returns the document's address.
func (w *world) taken(key string, r reply) string {
	w.t.Helper()
	if r.StatusCode != 202 {
		w.t.Fatalf("enqueued: %d %s", r.StatusCode, r.body)
	}
	var job reply
	w.soon("it is ingested", func() bool {
		job = w.want(200, "GET", r.Header.Get("Location"), key, "")
		return job.text("state") == "done" || job.text("state") == "failed"
	})
	if job.text("state") != "done" {
		w.t.Fatalf("job: %s", job.body)
	}
	return "/v1/documents/" + job.text("document_id")
}

// TestADocumentIsUploadedSearchedAndDeleted over HTTP, with the real model.
func TestADocumentIsUploadedSearchedAndDeleted(t *testing.T) {
	w := serve(t)
	w.work()
	key, other := w.key(acme), w.key(globex)
	at := w.taken(key, w.upload(key, "handbook.md", handbook, "labels", "staff", "metadata", `{"team":"sales"}`))
	doc := w.want(200, "GET", at, key, "")
	if doc.text("filename") != "handbook.md" || doc.field("metadata", "team") != "sales" ||
		!strings.Contains(doc.body, "thirty days") {
		t.Errorf("document: %s", doc.body)
	}
	if r := w.ask("GET", at, key, "", "If-None-Match", doc.Header.Get("ETag")); r.StatusCode != 304 {
		t.Errorf("asked for again: %d", r.StatusCode)
	}
	w.want(404, "GET", at, other, "")
	if list := w.want(200, "GET", "/v1/documents", other, ""); len(list.items()) != 0 {
		t.Errorf("another tenant lists %s", list.body)
	}
	found := w.want(200, "POST", "/v1/search", key, `{"text":"How do I return a pump?","labels":["staff"],"top_k":2}`)
	hits, _ := found.field("hits").([]any)
	if len(hits) != 2 || !strings.Contains(found.body, "thirty days") {
		t.Fatalf("found: %s", found.body)
	}
	viewer := w.key(acme, access.KBRead)
	if hidden, _ := w.want(200, "POST", "/v1/search", viewer,
		`{"text":"How do I return a pump?"}`).field("hits").([]any); len(hidden) != 0 {
		t.Errorf("without the label: %v", hidden)
	}
	if none, _ := w.want(200, "POST", "/v1/search", other,
		`{"text":"pump","labels":["staff"]}`).field("hits").([]any); len(none) != 0 {
		t.Errorf("another tenant: %v", none)
	}
	hit, _ := hits[0].(map[string]any)
	passage := fmt.Sprintf("/v1/passages/%s", hit["chunk_id"])
	if p := w.want(200, "GET", passage+"?around=10", key, ""); p.text("filename") != "handbook.md" {
		t.Errorf("cited: %s", p.body)
	}
	w.want(404, "GET", passage, other, "")
	shown := w.want(200, "GET", "/v1/events/"+found.text("event_id")+"/retrieval", key, "")
	if !strings.Contains(shown.body, `"state":"unchanged"`) {
		t.Errorf("shown: %s", shown.body)
	}
	w.want(404, "GET", "/v1/events/"+found.text("event_id")+"/retrieval", other, "")
	if many := w.want(200, "POST", "/v1/search/batch", key,
		`{"questions":[{"text":"pump"},{"text":"impeller","mode":"lexical","labels":["staff"]}]}`); len(
		many.items()) != 2 {
		t.Errorf("batch: %s", many.body)
	}
	if e := w.want(200, "POST", "/v1/search/explain", key, `{"text":"pump"}`); e.text("tier") != "exact" {
		t.Errorf("explained: %s", e.body)
	}
	if e := w.want(200, "POST", "/v1/evaluations", key,
		`{"questions":[{"text":"return a pump","answers":{"handbook.md":1}}],"labels":["staff"]}`); len(
		e.items()) != 3 || !strings.Contains(e.body, `"mean":1`) {
		t.Errorf("evaluated: %s", e.body)
	}
	before := w.count(acme, audit.Filter{Action: audit.ActionRetrieval})
	// What no search can find is no answer: figures of nothing are refused, question by question, and nothing is
	// searched.
	for _, c := range []struct {
		key, body string
		wrong     []string
	}{
		// without its label
		{viewer, `{"questions":[{"text":"return a pump","answers":{"handbook.md":1}}]}`,
			[]string{"body.questions[0].answers"}},
		{key,
			`{"questions":[{"text":"a","answers":{"handbook.md":0}},{"text":"b","answers":{"upload:handbook.md":1}},` +
				`{"text":"c","answers":{"other.md":1,"":1}}],"labels":["staff"]}`,
			[]string{"body.questions[0].answers", "body.questions[2].answers"}},
		{other, `{"questions":[{"text":"return a pump","answers":{"handbook.md":1}}],"labels":["staff"]}`,
			[]string{"body.questions[0].answers"}},
	} {
		r := w.want(422, "POST", "/v1/evaluations", c.key, c.body)
		for _, at := range c.wrong {
			if !strings.Contains(r.body, at) {
				t.Errorf("%s: %s", c.body, r.body)
			}
		}
		if n := strings.Count(r.body, `"location"`); n != len(c.wrong) {
			t.Errorf("%d locations: %s", n, r.body)
		}
	}
	for _, bad := range []string{`{"text":""}`, `{"text":"x","top_k":0}`, `{"text":"x","top_k":101}`,
		`{"text":"x","where":["nonsense"]}`, `{"text":"x","mode":"magic"}`, `{"text":"x","after":"nowhere"}`,
		`{"text":"x","rerank":true}`, `{"text":" "}`} {
		if r := w.ask("POST", "/v1/search", key, bad); r.StatusCode != 422 ||
			!strings.Contains(r.body, `"location":"body.`) {
			t.Errorf("%s: %d %s", bad, r.StatusCode, r.body)
		}
	}
	if after := w.count(acme, audit.Filter{Action: audit.ActionRetrieval}); after != before {
		t.Error("a refused search is on the trail")
	}
	// It is replaced: its ETag is another, and who would delete the old one is told so.
	if again := w.taken(key, w.upload(key, "handbook.md", handbook+"\nNew.\n")); again != at {
		t.Errorf("replaced: %s, it was %s", again, at)
	}
	if v := w.want(200, "GET", at+"/versions", key, ""); len(v.items()) != 1 {
		t.Errorf("versions: %s", v.body)
	}
	w.want(412, "DELETE", at, key, "", "If-Match", doc.Header.Get("ETag"))
	w.want(404, "DELETE", at, other, "")
	w.want(200, "DELETE", at, key, "", "If-Match", w.want(200, "GET", at, key, "").Header.Get("ETag"))
	w.want(404, "GET", at, key, "")
	if u := w.want(200, "GET", "/v1/usage", key, ""); u.field("documents") != 0.0 ||
		u.field("limits", "at_once") != 64.0 {
		t.Errorf("usage: %s", u.body)
	}
	if r := w.upload(key, "empty.txt", ""); r.StatusCode != 422 || !strings.Contains(r.body, "body.content") {
		t.Errorf("an empty file: %d %s", r.StatusCode, r.body)
	}
	w.want(422, "POST", "/v1/documents/from-url", key, `{"url":"file:///etc/passwd"}`)
}

// TestALargeDocumentComesInPieces, and goes on where it was broken off.
func TestALargeDocumentComesInPieces(t *testing.T) {
	w := serve(t)
	w.work()
	key, other := w.key(acme), w.key(globex)
	text := handbook + strings.Repeat("Page after page of nothing in particular. ", 60_000) // 2.5 MB
	begun := w.want(201, "POST", "/v1/uploads", key, fmt.Sprintf(`{"filename":"large.md","size":%d}`, len(text)))
	at := begun.Header.Get("Location")
	send := func(key string, offset int, piece string) reply {
		return w.ask("PATCH", at, key, piece, "Content-Type", "application/offset+octet-stream", "Upload-Offset",
			fmt.Sprint(offset))
	}
	if r := send(key, 0, text[:1_200_000]); r.StatusCode != 204 || r.Header.Get("Upload-Offset") != "1200000" {
		t.Fatalf("the first piece: %d %s", r.StatusCode, r.body)
	}
	for name, r := range map[string]reply{"a gap": send(key, 1_300_000, "x"), "again": send(key, 0, "x"),
		"too early": w.ask("POST", at+"/finish", key, "")} {
		if r.StatusCode != 409 {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if r := send(other, 1_200_000, "x"); r.StatusCode != 404 {
		t.Errorf("another tenant's piece: %d", r.StatusCode)
	}
	if r := send(key, 1_200_000, text[1_200_000:]+"more"); r.StatusCode != 413 {
		t.Errorf("more than was said: %d %s", r.StatusCode, r.body)
	}
	got := w.want(200, "GET", at, key, "")
	offset, _ := got.field("offset").(float64)
	if r := send(key, int(offset), text[int(offset):]); r.StatusCode != 204 {
		t.Fatalf("the rest: %d %s", r.StatusCode, r.body)
	}
	r := w.want(202, "POST", at+"/finish", key, "")
	w.want(404, "GET", at, key, "")
	if job := w.want(200, "GET", r.Header.Get("Location"), key, ""); job.text("filename") != "large.md" {
		t.Errorf("job: %s", job.body)
	}
	w.want(200, "POST", "/v1/jobs/cancel", key, `{"ids":["`+r.text("job_id")+`"]}`)
	w.want(404, "GET", r.Header.Get("Location"), other, "")
	w.want(413, "POST", "/v1/uploads", key, `{"filename":"x","size":999999999999}`)
	gone := w.want(201, "POST", "/v1/uploads", key, `{"filename":"x","size":3}`).Header.Get("Location")
	w.want(404, "DELETE", gone, other, "")
	w.want(204, "DELETE", gone, key, "")
}

// FuzzForm: no form brings the service down, whatever stands in it.
func FuzzForm(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nhello\r\n--b--\r\n"),
		"multipart/form-data; boundary=b")
	f.Add([]byte("--b\r\nContent-Disposition: form-data; "+
		"name=\"metadata\"\r\n\r\n{\"a\":1,\"a\":2}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; "+
		"filename=\"../../x\"\r\n\r\nx\r\n--b--"), "multipart/form-data; boundary=b")
	f.Add([]byte("--"), "multipart/form-data; boundary=")
	f.Add([]byte("x=y"), "application/x-www-form-urlencoded")
	w := serveFor(f, testkit.Database(f))
	key := w.key(acme)
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		r := httptest.NewRequest("POST", "/v1/documents", bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", kind)
		out := httptest.NewRecorder()
		w.s.Handler().ServeHTTP(out, r)
		if out.Code >= 500 {
			t.Fatalf("%d %s", out.Code, out.Body)
		}
	})
}

// FuzzQuestions: no parameter of a list brings the service down: cursors, filters, times.
func FuzzQuestions(f *testing.F) {
	f.Add("after", "x")
	f.Add("meta", "a=b")
	f.Add("since", "2026-01-01T00:00:00Z")
	f.Add("text", "\"a\" -b")
	w := serveFor(f, testkit.Database(f))
	key := w.key(acme)
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, path := range []string{"/v1/events", "/v1/escalations", "/v1/documents", "/v1/jobs", "/v1/keys"} {
			r := httptest.NewRequest("GET", path+"?"+url.Values{name: {value}}.Encode(), nil)
			r.Header.Set("Authorization", "Bearer "+key)
			out := httptest.NewRecorder()
			w.s.Handler().ServeHTTP(out, r)
			if out.Code >= 500 {
				t.Fatalf("%s: %d %s", r.URL, out.Code, out.Body)
			}
		}
	})
}

// TestADocumentReplacedMeanwhileIsNotDeleted replaces a document while its deletion waits, as an ingest does: under the
// lock of its source.
func TestADocumentReplacedMeanwhileIsNotDeleted(t *testing.T) {
	w := serve(t)
	w.work()
	key := w.key(acme)
	at := w.taken(key, w.upload(key, "handbook.md", handbook))
	etag := w.want(200, "GET", at, key, "").Header.Get("ETag")
	tx, err := testkit.Connect(t, w.d.SuperuserURL()).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended(tenant_id || source, 0))
		FROM kb_sources`); err != nil {
		t.Fatal(err)
	}
	deleted := make(chan reply)
	go func() { deleted <- w.ask("DELETE", at, key, "", "If-Match", etag) }()
	super := testkit.Connect(t, w.d.SuperuserURL())
	w.soon("the deletion waits", func() bool {
		var waits bool
		err := super.QueryRow(t.Context(),
			`SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)`).Scan(&waits)
		return err == nil && waits
	})
	if _, err := tx.Exec(t.Context(), `UPDATE kb_sources SET version = version + 1`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := <-deleted; r.StatusCode != 412 || !strings.Contains(r.body, "at version 2 now") {
		t.Errorf("the deletion: %d %s", r.StatusCode, r.body)
	}
	etag = w.want(200, "GET", at, key, "").Header.Get("ETag")
	w.want(200, "DELETE", at, key, "", "If-Match", `"other", `+etag)
}

// TestADocumentIsSplitAsAsked over HTTP: by a form, in pieces and by a URL; what can't be is refused with its field.
func TestADocumentIsSplitAsAsked(t *testing.T) {
	w := serve(t)
	w.work()
	key := w.key(acme)
	long := strings.Repeat("A pump may be returned within thirty days. ", 100)
	at := w.taken(key, w.upload(key, "a.txt", long, "chunking", `{"max_tokens":400,"overlap_tokens":100}`))
	doc := w.want(200, "GET", at, key, "")
	if doc.field("chunking", "max_tokens") != 400.0 || doc.field("chunking", "overlap_tokens") != 100.0 {
		t.Errorf("%s", doc.body)
	}
	passages, _ := doc.field("passages").([]any)
	first, _ := passages[0].(map[string]any)
	if content, _ := first["content"].(string); len(passages) < 3 || len(content) < 1500 ||
		!strings.HasPrefix(long, content) {
		t.Errorf("%d chunks, the first is %q", len(passages), content)
	}
	started := w.want(201, "POST", "/v1/uploads", key, `{"filename":"b.txt","size":1,"chunking":{"max_tokens":100}}`)
	if started.text("id") == "" {
		t.Errorf("%s", started.body)
	}
	for chunking, field := range map[string]string{
		`{"max_tokens":99}`:                        "chunking.max_tokens",
		`{"max_tokens":4097}`:                      "chunking.max_tokens",
		`{"max_tokens":100,"overlap_tokens":51}`:   "chunking.overlap_tokens",
		`{"overlap_tokens":1}`:                     "chunking.overlap_tokens",
		`{"max_tokens":100,"max_chunk_tokens":51}`: "chunking",
		`{"max_tokens":"many"}`:                    "chunking",
	} {
		for how, r := range map[string]reply{
			"form": w.upload(key, "a.txt", long, "chunking", chunking),
			"url": w.ask("POST", "/v1/documents/from-url", key,
				`{"url":"https://example.com/","chunking":`+chunking+`}`),
			"pieces": w.ask("POST", "/v1/uploads", key, `{"filename":"b.txt","size":1,"chunking":`+chunking+`}`),
		} {
			if r.StatusCode != 422 || !strings.Contains(r.body, `"body.`+field) {
				t.Errorf("%s by %s: %d %s", chunking, how, r.StatusCode, r.body)
			}
		}
	}
}
