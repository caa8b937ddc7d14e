package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

// settled waits until a vector store, a file in it or a batch is not in progress, and returns it.
func (w *world) settled(key, path string) reply {
	w.t.Helper()
	var r reply
	w.soon(path+" is ingested", func() bool {
		r = w.openAIOK("GET", path, key, "")
		return r.text("status") != "in_progress"
	})
	return r
}

// documents are how many the tenant has.
func (w *world) documents(key string) int {
	w.t.Helper()
	return len(w.want(200, "GET", "/v1/documents", key, "").items())
}

// TestABatchOf2000FilesWithAFailingOne: one event for the batch, one document for each file, and why one failed.
func TestABatchOf2000FilesWithAFailingOne(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	vs := w.openAIOK("POST", "vector_stores", key, `{"name":"many"}`).text("id")
	bad := w.form(key, "files", "file", "picture.bin", "\x00\x01\x02\x03 no text", "purpose", "assistants").text("id")
	ids := []string{bad}
	const short = 40 // with content of their own; the others' rows are made by the database
	for i := range short {
		ids = append(ids, w.form(key, "files", "file", fmt.Sprintf("%d.md", i), fmt.Sprintf("Pump %d needs oil.", i),
			"purpose", "assistants").text("id"))
	}
	w.sql(`INSERT INTO kb_files (tenant_id, id, filename, purpose, bytes)
	       SELECT '` + acme.String() + `', ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, n || '.md',
	              'assistants', 5 FROM generate_series(1, 1959) n;
	  INSERT INTO kb_file_parts (tenant_id, id, file_id, bytes) SELECT tenant_id, id, id, 5 FROM kb_files
	   WHERE id::text LIKE '00000000-%';
	  INSERT INTO kb_file_pieces (tenant_id, part_id, start, content)
	       SELECT tenant_id, id, 0, convert_to(filename, 'UTF8') FROM kb_files WHERE id::text LIKE '00000000-%'`)
	for i := 1; i <= 1959; i++ {
		ids = append(ids, fmt.Sprintf("file-0000000000007000800000000000%04d", i))
	}
	if len(ids) != 2000 {
		t.Fatalf("%d files", len(ids))
	}
	before := w.count(acme, audit.Filter{})
	raw, err := json.Marshal(map[string]any{"file_ids": ids, "attributes": map[string]any{"batch": 1}})
	if err != nil {
		t.Fatal(err)
	}
	b := w.openAIOK("POST", "vector_stores/"+vs+"/file_batches", key, string(raw))
	if b.text("status") != "in_progress" || b.field("file_counts", "total") != 2000.0 {
		t.Fatalf("%s", b.body)
	}
	if n := w.count(acme, audit.Filter{}) - before; n != 1 {
		t.Errorf("%d events for one batch", n)
	}
	w.work()
	path := "vector_stores/" + vs + "/file_batches/" + b.text("id")
	for begin := time.Now(); ; time.Sleep(time.Second) {
		if b = w.openAIOK("GET", path, key, ""); b.text("status") != "in_progress" {
			break
		}
		if time.Since(begin) > 8*time.Minute {
			t.Fatalf("%s", b.body)
		}
	}
	if b.text("status") != "completed" || b.field("file_counts", "failed") != 1.0 ||
		b.field("file_counts", "completed") != 1999.0 {
		t.Errorf("%s", b.body)
	}
	failed := w.openAIOK("GET", path+"/files?filter=failed", key, "")
	if len(failed.ids()) != 1 || failed.ids()[0] != bad || !strings.Contains(failed.body, `"code":"unsupported_file"`) {
		t.Errorf("%s", failed.body)
	}
	if r := w.openAIOK("GET", "vector_stores/"+vs, key, ""); r.text("status") != "completed" ||
		r.field("file_counts", "total") != 2000.0 {
		t.Errorf("%s", r.body)
	}
}

// TestWhatIsDeletedMeanwhile: a file while its batch runs, a batch that is cancelled, and a vector store while it is
// searched.
func TestWhatIsDeletedMeanwhile(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	vs := w.openAIOK("POST", "vector_stores", key, `{}`).text("id")
	var ids []string
	for i := range 6 {
		ids = append(ids, w.form(key, "files", "file", fmt.Sprintf("%d.md", i), fmt.Sprintf("Pump %d needs oil.", i),
			"purpose", "assistants").text("id"))
	}
	batch := func(ids ...string) string {
		raw, _ := json.Marshal(map[string]any{"file_ids": ids})
		return "vector_stores/" + vs + "/file_batches/" +
			w.openAIOK("POST", "vector_stores/"+vs+"/file_batches", key, string(raw)).text("id")
	}
	first, second := batch(ids[:3]...), batch(ids[3:]...)
	w.openAIOK("DELETE", "files/"+ids[0], key, "")
	if r := w.openAIOK("POST", second+"/cancel", key, ""); r.text("status") != "cancelled" ||
		r.field("file_counts", "cancelled") != 3.0 {
		t.Errorf("%s", r.body)
	}
	w.work()
	if r := w.settled(key, first); r.text("status") != "completed" || r.field("file_counts", "completed") != 2.0 ||
		r.field("file_counts", "total") != 2.0 {
		t.Errorf("%s", r.body)
	}
	if r := w.openAIOK("GET", second+"/files?filter=cancelled", key, ""); len(r.ids()) != 3 {
		t.Errorf("%s", r.body)
	}
	if n := w.documents(key); n != 2 {
		t.Errorf("%d documents: neither the deleted file nor the cancelled ones become any", n)
	}
	var searches sync.WaitGroup
	deleted := make(chan struct{})
	for range 4 {
		searches.Go(func() {
			for {
				r := w.ask("POST", "/openai/v1/vector_stores/"+vs+"/search", key, `{"query":"oil for a pump"}`)
				if r.StatusCode == 404 {
					select {
					case <-deleted:
					default:
						t.Error("not found before it was deleted")
					}
					return
				}
				if r.StatusCode != 200 {
					t.Errorf("%d %s", r.StatusCode, r.body)
					return
				}
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	close(deleted)
	w.openAIOK("DELETE", "vector_stores/"+vs, key, "")
	searches.Wait()
	w.soon("its documents are removed", func() bool { return w.documents(key) == 0 })
	if r := w.openAIOK("GET", "files", key, ""); len(r.ids()) != 5 {
		t.Errorf("the files stay: %s", r.body)
	}
}

// TestOneFileIsOneDocument: in two vector stores, ingested once; removed with the last. One that is split in two ways
// is two.
func TestOneFileIsOneDocument(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	f := w.form(key, "files", "file", "handbook.md", handbook, "purpose", "assistants").text("id")
	var stores []string
	for range 3 {
		stores = append(stores, w.openAIOK("POST", "vector_stores", key, `{}`).text("id"))
	}
	for _, vs := range stores[:2] { // both wait for one job
		w.openAIOK("POST", "vector_stores/"+vs+"/files", key, `{"file_id":"`+f+`","attributes":{"store":"`+vs+`"}}`)
	}
	if jobs := w.want(200, "GET", "/v1/jobs", key, "").items(); len(jobs) != 1 {
		t.Errorf("%d jobs for one file", len(jobs))
	}
	w.work()
	for _, vs := range stores[:2] {
		w.settled(key, "vector_stores/"+vs+"/files/"+f)
	}
	w.openAIOK("POST", "vector_stores/"+stores[2]+"/files", key, `{"file_id":"`+f+`"}`)
	if r := w.openAIOK("GET", "vector_stores/"+stores[2]+"/files/"+f, key, ""); r.text("status") != "completed" {
		t.Errorf("one that is ingested is there at once: %s", r.body)
	}
	if n := w.documents(key); n != 1 {
		t.Errorf("%d documents of one file", n)
	}
	for i, vs := range stores {
		w.openAIOK("DELETE", "vector_stores/"+vs+"/files/"+f, key, "")
		if n, want := w.documents(key), min(1, 2-i); n != want {
			t.Errorf("%d documents after the file was taken out of %d of 3", n, i+1)
		}
	}
	for i, chunking := range []string{`{"type":"auto"}`,
		`{"type":"static","static":{"max_chunk_size_tokens":200,"chunk_overlap_tokens":50}}`} {
		w.openAIOK(
			"POST",
			"vector_stores/"+stores[i]+"/files",
			key,
			`{"file_id":"`+f+`","chunking_strategy":`+chunking+`}`,
		)
		w.settled(key, "vector_stores/"+stores[i]+"/files/"+f)
	}
	if n := w.documents(key); n != 2 {
		t.Errorf("%d documents of a file that is split in two ways", n)
	}
	w.openAIOK("DELETE", "files/"+f, key, "")
	if n := w.documents(key); n != 0 {
		t.Errorf("%d documents of a deleted file", n)
	}
	// An archive is no document.
	w.openAIOK("POST", "vector_stores/"+stores[0]+"/files", key, `{"file_id":"`+
		w.form(key, "files", "file", "a.md.gz", gzipped(t, handbook), "purpose", "assistants").text("id")+`"}`)
	w.settled(key, "vector_stores/"+stores[0])
	if r := w.openAIOK("GET", "vector_stores/"+stores[0]+"/files", key, ""); !strings.Contains(
		r.body,
		"unsupported_file",
	) {
		t.Errorf("%s", r.body)
	}
	if r := w.ask("POST", "/v1/documents/from-url", key, `{"url":"https://example.com"}`); r.StatusCode != 202 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := w.upload(key, "x.md", "x", "source", "konstruct:file/x"); r.StatusCode != 422 {
		t.Errorf("a document that says it is a file's: %d %s", r.StatusCode, r.body)
	}
}

// TestOtherDocumentsAreFilesOfAVectorStore: one that came another way is listed, read, searched and deleted.
func TestOtherDocumentsAreFilesOfAVectorStore(t *testing.T) {
	w := serve(t)
	w.work()
	key := w.key(acme)
	at := w.taken(key, w.upload(key, "handbook.md", handbook))
	id := "file-" + strings.ReplaceAll(strings.TrimPrefix(at, "/v1/documents/"), "-", "")
	if r := w.openAIOK("GET", "files/"+id, key, ""); r.text("filename") != "handbook.md" ||
		r.text("purpose") != "assistants" || r.field("bytes") != float64(len(handbook)) {
		t.Errorf("%s", r.body)
	}
	if r := w.openAIOK("GET", "files/"+id+"/content", key, ""); !strings.Contains(r.body, "thirty days") {
		t.Errorf("%s", r.body)
	}
	vs := w.openAIOK("POST", "vector_stores", key, `{"file_ids":["`+id+`"]}`).text("id")
	if r := w.openAIOK("GET", "vector_stores/"+vs+"/files", key, ""); len(r.ids()) != 1 || r.ids()[0] != id {
		t.Errorf("%s", r.body)
	}
	if r := w.openAIOK("POST", "vector_stores/"+vs+"/search", key, `{"query":"return a pump"}`); !strings.Contains(
		r.body,
		id,
	) {
		t.Errorf("%s", r.body)
	}
	w.openAIOK("DELETE", "vector_stores/"+vs+"/files/"+id, key, "")
	if n := w.documents(key); n != 1 {
		t.Errorf("%d documents: one that was made of no file stays", n)
	}
	w.openAIOK("DELETE", "files/"+id, key, "")
	if n := w.documents(key); n != 0 {
		t.Errorf("%d documents", n)
	}
}

// TestVectorStoreSearchRanks by each ranker, threshold and weights, and by several texts; each text is an event.
func TestVectorStoreSearchRanks(t *testing.T) {
	w := serve(t)
	w.work()
	key := w.key(acme)
	vs := w.openAIOK("POST", "vector_stores", key, `{}`).text("id")
	for name, content := range map[string]string{"pump.md": "A pump is sent back within thirty days.",
		"valve.md": "The XR-77 valve is turned to the left.", "tax.md": "Taxes are due in April."} {
		f := w.form(key, "files", "file", name, content, "purpose", "assistants").text("id")
		w.openAIOK("POST", "vector_stores/"+vs+"/files", key, `{"file_id":"`+f+`","attributes":{"name":"`+name+
			`","size":`+fmt.Sprint(len(content))+`,"tax":`+fmt.Sprint(name == "tax.md")+`}}`)
	}
	w.settled(key, "vector_stores/"+vs)
	names := func(body string) (all []string) {
		t.Helper()
		r := w.openAIOK("POST", "vector_stores/"+vs+"/search", key, body)
		last := 2.0
		data, _ := r.field("data").([]any)
		for _, one := range data {
			hit := one.(map[string]any)
			if score := hit["score"].(float64); score < 0 || score > min(1, last) {
				t.Errorf("%s: %s", body, r.body)
			} else {
				last = score
			}
			all = append(all, strings.TrimSuffix(hit["filename"].(string), ".md"))
		}
		return all
	}
	before := w.count(acme, audit.Filter{Action: audit.ActionRetrieval})
	const weights = `"max_num_results":1,"ranking_options":{"hybrid_search":{"embedding_weight":`
	for body, want := range map[string]string{
		`{"query":"How do I return it?","max_num_results":1}`:                                     "pump",
		`{"query":"XR-77","max_num_results":1,"ranking_options":{"ranker":"auto"}}`:               "valve",
		`{"query":"How do I return it?","max_num_results":1,"ranking_options":{"ranker":"none"}}`: "pump",
		`{"query":["How do I return it?","XR-77"],"max_num_results":2}`:                           "valve pump",
		`{"query":"x","ranking_options":{"score_threshold":1}}`:                                   "",
		`{"query":"XR-77",` + weights + `0,"text_weight":1}}}`:                                    "valve",
		`{"query":"How do I return it?",` + weights + `1,"text_weight":0}}}`:                      "pump",
		`{"query":"april","filters":{"type":"eq","key":"tax","value":true}}`:                      "tax",
		`{"query":"April","filters":{"type":"ne","key":"tax","value":true}}`:                      "2",
		`{"query":"pump","filters":{"type":"in","key":"name","value":["tax.md","none"]}}`:         "tax",
		`{"query":"pump","filters":{"type":"nin","key":"name","value":["tax.md","valve.md"]}}`:    "pump",
		`{"query":"pump","filters":{"type":"lte","key":"size","value":1}}`:                        "",
		`{"query":"pump","filters":{"type":"and","filters":[{"type":"gt","key":"size","value":30},` +
			`{"type":"lt","key":"size","value":40},{"type":"or","filters":[` +
			`{"type":"eq","key":"name","value":"pump.md"},{"type":"gte","key":"name","value":"z"}]}]}}`: "pump",
	} {
		got := names(body)
		if text := strings.Join(got, " "); text != want && fmt.Sprint(len(got)) != want {
			t.Errorf("%s: %v, want %s", body, got, want)
		}
	}
	if n := w.count(acme, audit.Filter{Action: audit.ActionRetrieval}) - before; n != 14 {
		t.Errorf("%d retrievals, want 14", n)
	}
}

// TestWhatExpiresIsDeletedByAJob: vector stores, files and uploads.
func TestWhatExpiresIsDeletedByAJob(t *testing.T) {
	w := serve(t)
	w.work()
	key := w.key(acme)
	client := w.openAIClient(key)
	short := w.form(key, "files", "file", "short.md", handbook, "purpose", "assistants", "expires_after[anchor]",
		"created_at", "expires_after[seconds]", "3600")
	if short.field("expires_at").(float64)-short.field("created_at").(float64) != 3600 {
		t.Errorf("%s", short.body)
	}
	long := w.form(key, "files", "file", "long.md", "Valves are turned to the left.", "purpose", "assistants").
		text("id")
	vs := w.openAIOK("POST", "vector_stores", key, `{"file_ids":["`+short.text("id")+`","`+long+`"],"expires_after":`+
		`{"anchor":`+
		`"last_active_at","days":1}}`).
		text("id")
	w.openAIOK("POST", "uploads", key, `{"bytes":5,"filename":"x","mime_type":"x","purpose":"assistants"}`)
	if r := w.settled(key, "vector_stores/"+vs); r.field("file_counts", "completed") != 2.0 {
		t.Errorf("%s", r.body)
	}
	w.sql(`UPDATE kb_files SET expires_at = now() WHERE expires_at IS NOT NULL;
	  UPDATE kb_file_uploads SET expires_at = now();
	  UPDATE river_job SET scheduled_at = now() WHERE queue = 'collections' AND state = 'scheduled'`)
	w.soon("the file expires", func() bool { return w.documents(key) == 1 })
	if _, err := client.Files.Get(t.Context(), short.text("id")); refusal(err) != 404 {
		t.Errorf("an expired file: %v", err)
	}
	w.sql(
		`SET app.current_tenant = '` + acme.String() + `'; UPDATE kb_collections
	  SET last_active_at = now() - interval '2 days'`,
	)
	w.soon("the vector store expires", func() bool {
		return w.openAIOK("GET", "vector_stores/"+vs, key, "").text("status") == "expired"
	})
	w.soon("its documents are removed", func() bool { return w.documents(key) == 0 })
	for path, body := range map[string]string{"/search": `{"query":"valves"}`, "/files": `{"file_id":"` + long + `"}`} {
		if r := w.ask("POST", "/openai/v1/vector_stores/"+vs+path, key, body); r.StatusCode != 400 {
			t.Errorf("%s of one that has expired: %d %s", path, r.StatusCode, r.body)
		}
	}
	if _, err := client.Files.Get(t.Context(), long); err != nil {
		t.Errorf("the file stays: %v", err)
	}
}

// TestFilesAreMadeOnce: a request that is made again with its Idempotency-Key makes no second file.
func TestFilesAreMadeOnce(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.KBRead, access.KBWrite)
	send := func(content string) reply {
		return w.ask(
			"POST",
			"/openai/v1/files",
			key,
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\""+
				"\r\n\r\n"+content+"\r\n--b\r\n"+
				"Content-Disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n--b--\r\n",
			"Content-Type",
			"multipart/form-data; boundary=b",
			"Idempotency-Key",
			"one",
		)
	}
	first, second, other := send("x"), send("x"), send("another")
	if first.StatusCode != 200 || first.body != second.body || other.StatusCode != 400 {
		t.Errorf("%s, %s, %s", first.body, second.body, other.body)
	}
	if r := w.openAIOK("GET", "files", key, ""); len(r.ids()) != 1 {
		t.Errorf("%s", r.body)
	}
	for range 2 {
		w.openAIOK("POST", "vector_stores", key, `{}`, "Idempotency-Key", "two")
	}
	if r := w.openAIOK("GET", "vector_stores", key, ""); len(r.ids()) != 1 {
		t.Errorf("%s", r.body)
	}
	client := w.openAIClient(key)
	if _, err := client.Files.New(t.Context(), document("empty.md", "")); refusal(err) != 400 {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := client.Files.New(t.Context(), openai.FileNewParams{File: strings.NewReader("x"),
		Purpose: "all"}); refusal(err) != 400 {
		t.Errorf("another purpose: %v", err)
	}
}

// gzipped is a file that holds another.
func gzipped(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
