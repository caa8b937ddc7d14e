package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// openAIClient is OpenAI's own client for Go, pointed here.
func (w *world) openAIClient(key string) openai.Client {
	return openai.NewClient(option.WithBaseURL(w.url+"/openai/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
}

// document is a file to send.
func document(name, content string) openai.FileNewParams {
	return openai.FileNewParams{Purpose: openai.FilePurposeAssistants,
		File: openai.File(strings.NewReader(content), name, "text/markdown")}
}

// refusal is the status of an error of OpenAI's client; 0 of none.
func refusal(err error) int {
	var refused *openai.Error
	if errors.As(err, &refused) {
		return refused.StatusCode
	}
	return 0
}

// must ends the test for an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestOpenAIVectorStoresForGo: OpenAI's documented calls of files and vector stores, with its own client.
func TestOpenAIVectorStoresForGo(t *testing.T) {
	w := serve(t)
	w.work()
	ctx, client := t.Context(), w.openAIClient(w.key(acme, access.KBRead, access.KBWrite))
	f := must[*openai.FileObject](t)(client.Files.New(ctx, document("handbook.md", handbook)))
	if f.Bytes != int64(len(handbook)) || f.Filename != "handbook.md" || f.Purpose != "assistants" ||
		!strings.HasPrefix(f.ID, "file-") || f.CreatedAt == 0 {
		t.Errorf("%s", f.RawJSON())
	}
	got := must[*openai.FileObject](t)(client.Files.Get(ctx, f.ID))
	if got.RawJSON() != strings.TrimSpace(f.RawJSON()) {
		t.Errorf("%s is not %s", got.RawJSON(), f.RawJSON())
	}
	content := must[*http.Response](t)(client.Files.Content(ctx, f.ID))
	raw, err := io.ReadAll(content.Body)
	if err != nil || string(raw) != handbook {
		t.Errorf("content %q, %v", raw, err)
	}
	store := must[*openai.VectorStore](t)(client.VectorStores.New(ctx, openai.VectorStoreNewParams{
		Name: openai.String("Support FAQ"), FileIDs: []string{f.ID}, Metadata: shared.Metadata{"team": "support"},
		ExpiresAfter: openai.VectorStoreNewParamsExpiresAfter{Days: 7}}))
	if store.ExpiresAt != store.LastActiveAt+7*24*3600 || store.FileCounts.Total != 1 ||
		store.Metadata["team"] != "support" ||
		store.ExpiresAfter.Days != 7 {
		t.Errorf("%s", store.RawJSON())
	}
	in := must[*openai.VectorStoreFile](t)(client.VectorStores.Files.PollStatus(ctx, store.ID, f.ID, 100))
	if in.Status != "completed" || in.UsageBytes != int64(len(handbook)) || in.ChunkingStrategy.Type != "other" {
		t.Errorf("%s", in.RawJSON())
	}
	batch := must[*openai.VectorStoreFileBatch](t)(client.VectorStores.FileBatches.UploadAndPoll(ctx, store.ID,
		[]openai.FileNewParams{document("a.md", "# Pumps\n\nA pump needs oil each spring."),
			document("b.md", "# Valves\n\nA valve is turned to the left.")}, nil, 100))
	if batch.Status != "completed" || batch.FileCounts.Completed != 2 || batch.FileCounts.Total != 2 {
		t.Errorf("%s", batch.RawJSON())
	}
	files := 0
	pages := client.VectorStores.FileBatches.ListFilesAutoPaging(ctx, store.ID, batch.ID,
		openai.VectorStoreFileBatchListFilesParams{Limit: openai.Int(1)})
	for pages.Next() {
		files++
	}
	if pages.Err() != nil || files != 2 {
		t.Errorf("%d files of the batch, %v", files, pages.Err())
	}
	updated := must[*openai.VectorStoreFile](t)(client.VectorStores.Files.Update(ctx, store.ID, f.ID,
		openai.VectorStoreFileUpdateParams{Attributes: map[string]openai.VectorStoreFileUpdateParamsAttributeUnion{
			"region": {OfString: openai.String("eu")}, "year": {OfFloat: openai.Float(2026)},
			"final": {OfBool: openai.Bool(true)}}}))
	if updated.Attributes["region"].OfString != "eu" || updated.Attributes["year"].OfFloat != 2026 ||
		!updated.Attributes["final"].OfBool {
		t.Errorf("%s", updated.RawJSON())
	}
	found, err := client.VectorStores.Search(ctx, store.ID, openai.VectorStoreSearchParams{
		Query:         openai.VectorStoreSearchParamsQueryUnion{OfString: openai.String("How do I return a pump?")},
		MaxNumResults: openai.Int(1), RewriteQuery: openai.Bool(true)})
	if err != nil || len(found.Data) != 1 || found.Data[0].FileID != f.ID || found.Data[0].Filename != "handbook.md" ||
		!strings.Contains(found.Data[0].Content[0].Text, "thirty days") || found.Data[0].Score <= 0 ||
		found.Data[0].Score > 1 || found.Data[0].Attributes["region"].OfString != "eu" {
		t.Errorf("%s, %v", found.RawJSON(), err)
	}
	text, err := client.VectorStores.Files.Content(ctx, store.ID, f.ID)
	if err != nil || len(text.Data) != 1 || !strings.Contains(text.Data[0].Text, "thirty days") {
		t.Errorf("%+v, %v", text, err)
	}
	static := openai.FileChunkingStrategyParamOfStatic(openai.StaticFileChunkingStrategyParam{MaxChunkSizeTokens: 800,
		ChunkOverlapTokens: 400})
	again := must[*openai.VectorStoreFile](t)(client.VectorStores.Files.New(ctx, store.ID,
		openai.VectorStoreFileNewParams{FileID: f.ID, ChunkingStrategy: static}))
	if again.ChunkingStrategy.Static.MaxChunkSizeTokens != 800 || again.ChunkingStrategy.Type != "static" {
		t.Errorf("%s", again.RawJSON())
	}
	must[*openai.VectorStoreFile](t)(client.VectorStores.Files.PollStatus(ctx, store.ID, f.ID, 100))
	must[*openai.VectorStoreFileDeleted](t)(client.VectorStores.Files.Delete(ctx, store.ID, f.ID))
	if _, err := client.VectorStores.Files.Get(ctx, store.ID, f.ID); refusal(err) != 404 {
		t.Errorf("a file that was taken out: %v", err)
	}
	must[*openai.FileDeleted](t)(client.Files.Delete(ctx, f.ID))
	if _, err := client.Files.Get(ctx, f.ID); refusal(err) != 404 {
		t.Errorf("a deleted file: %v", err)
	}
	renamed := must[*openai.VectorStore](t)(client.VectorStores.Update(ctx, store.ID,
		openai.VectorStoreUpdateParams{Name: openai.String("FAQ")}))
	if renamed.Name != "FAQ" || renamed.FileCounts.Total != 2 || renamed.Metadata["team"] != "support" {
		t.Errorf("%s", renamed.RawJSON())
	}
	must[*openai.VectorStoreDeleted](t)(client.VectorStores.Delete(ctx, store.ID))
	key := w.key(acme)
	w.soon("documents of files in no collection are removed", func() bool {
		return len(w.want(200, "GET", "/v1/documents", key, "").items()) == 0
	})
	// Creating, one for the batch, attributes, attaching, taking out, renaming and deleting.
	if n := w.count(acme, audit.Filter{Action: audit.ActionCollection}); n != 7 {
		t.Errorf("%d events of the collection, want 7", n)
	}
	// That of each splitting of the handbook, and two of the store.
	if n := w.count(acme, audit.Filter{Action: audit.ActionRemoval}); n < 3 {
		t.Errorf("%d removals", n)
	}
}

// TestOpenAIUploadsForGo: parts in another order than they were sent in, some not used, and what can't be completed.
func TestOpenAIUploadsForGo(t *testing.T) {
	w := serve(t)
	ctx, client := t.Context(), w.openAIClient(w.key(acme, access.KBRead, access.KBWrite))
	create := func(bytes int64) string {
		u := must[*openai.Upload](t)(client.Uploads.New(ctx, openai.UploadNewParams{Bytes: bytes, Filename: "two.txt",
			MimeType: "text/plain", Purpose: openai.FilePurposeAssistants}))
		if u.Status != "pending" || u.ExpiresAt != u.CreatedAt+3600 {
			t.Errorf("%s", u.RawJSON())
		}
		return u.ID
	}
	part := func(upload, content string) (string, error) {
		p, err := client.Uploads.Parts.New(ctx, upload, openai.UploadPartNewParams{Data: strings.NewReader(content)})
		if err != nil {
			return "", err
		}
		return p.ID, nil
	}
	complete := func(upload, sum string, parts ...string) (*openai.Upload, error) {
		in := openai.UploadCompleteParams{PartIDs: parts}
		if sum != "" {
			in.Md5 = openai.String(sum)
		}
		return client.Uploads.Complete(ctx, upload, in)
	}
	id := create(11)
	world := must[string](t)(part(id, "world"))
	dropped := must[string](t)(part(id, "what is not used"))
	hello := must[string](t)(part(id, "hello "))
	other := create(5)
	foreign := must[string](t)(part(other, "other"))
	for name, parts := range map[string][]string{"none": {}, "too few": {hello}, "too many": {hello, world, dropped},
		"twice": {hello, hello}, "another upload's": {hello, foreign}, "no id": {"part"},
		"not there": {hello, "part_00000000000000000000000000000000"}} {
		if _, err := complete(id, "", parts...); refusal(err) != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := complete(id, "00000000000000000000000000000000", hello, world); refusal(err) != 400 {
		t.Errorf("another MD5: %v", err)
	}
	done := must[*openai.Upload](t)(complete(id, "5EB63BBBE01EEED093CB22BB8F5ACDC3", hello, world))
	if done.Status != "completed" || done.File.Bytes != 11 || done.File.Filename != "two.txt" {
		t.Errorf("%s", done.RawJSON())
	}
	raw, err := io.ReadAll(must[*http.Response](t)(client.Files.Content(ctx, done.File.ID)).Body)
	if err != nil || string(raw) != "hello world" {
		t.Errorf("%q, %v", raw, err)
	}
	// Late: parts, a second completion, a cancellation.
	if _, err := part(id, "late"); refusal(err) != 400 {
		t.Errorf("a late part: %v", err)
	}
	if _, err := complete(id, "", hello, world); refusal(err) != 400 {
		t.Errorf("completed again: %v", err)
	}
	if _, err := client.Uploads.Cancel(ctx, id); refusal(err) != 400 {
		t.Errorf("cancelled when it was completed: %v", err)
	}
	if u := must[*openai.Upload](t)(client.Uploads.Cancel(ctx, other)); u.Status != "cancelled" {
		t.Errorf("%s", u.RawJSON())
	}
	if _, err := complete(other, "", foreign); refusal(err) != 400 {
		t.Errorf("completed when it was cancelled: %v", err)
	}
	late := create(4)
	last := must[string](t)(part(late, "late"))
	w.sql(`UPDATE kb_file_uploads SET expires_at = now() - interval '1 second' WHERE state = 'pending'`)
	var expired *openai.Error
	if _, err := complete(late, "", last); !errors.As(err, &expired) || expired.StatusCode != 400 ||
		!strings.Contains(expired.Message, "expired") {
		t.Errorf("completed when it had expired: %v", err)
	}
	if _, err := part(late, "more"); refusal(err) != 400 {
		t.Errorf("a part of one that has expired: %v", err)
	}
	if _, err := client.Uploads.New(ctx, openai.UploadNewParams{Bytes: 1 << 40, Filename: "x", MimeType: "x",
		Purpose: openai.FilePurposeAssistants}); refusal(err) != 413 {
		t.Errorf("a large one: %v", err)
	}
}

// openAIError is an error as OpenAI's clients read it.
func (r reply) openAIError(t *testing.T) (message, param string) {
	t.Helper()
	var e struct {
		Error struct {
			Message, Type string
			Param, Code   *string
		}
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Error.Message == "" || e.Error.Type == "" {
		t.Errorf("%d %s is no error of OpenAI's", r.StatusCode, r.body)
	}
	if e.Error.Param != nil {
		param = *e.Error.Param
	}
	return e.Error.Message, param
}

// TestOpenAIRefusesBadInput: each with the field's name, in OpenAI's form.
func TestOpenAIRefusesBadInput(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.KBRead, access.KBWrite)
	client := w.openAIClient(key)
	f := must[*openai.FileObject](t)(client.Files.New(t.Context(), document("a.md", handbook))).ID
	vs := must[*openai.VectorStore](t)(client.VectorStores.New(t.Context(), openai.VectorStoreNewParams{})).ID
	attach, batches := "vector_stores/"+vs+"/files", "vector_stores/"+vs+"/file_batches"
	searching := "vector_stores/" + vs + "/search"
	const static = `,"chunking_strategy":{"type":"static","static":{`
	var many []string
	for i := range 17 {
		many = append(many, fmt.Sprintf(`"k%d":1`, i))
	}
	const missing = "file-00000000000000000000000000000000"
	ids := strings.Repeat(`"`+f+`",`, 2000) + `"` + f + `"`
	for _, c := range []struct {
		method, path, body string
		status             int
		param              string
	}{
		{"POST", "vector_stores", `{"nmae":"x"}`, 400, "nmae"},
		{"POST", "vector_stores", `{"name":7}`, 400, "name"},
		{"POST", "vector_stores", `{"name":"x","name":"y"}`, 400, ""},
		{"POST", "vector_stores", `{`, 400, ""},
		{"POST", "vector_stores", `{"name":"\u0000"}`, 400, "name"},
		{"POST", "vector_stores", `{"expires_after":{"anchor":"created_at","days":1}}`, 400, "expires_after.anchor"},
		{"POST", "vector_stores", `{"expires_after":{"anchor":"last_active_at","days":366}}`, 400,
			"expires_after.days"},
		{"POST", "vector_stores", `{"metadata":{"a":{"b":"c"}}}`, 400, "metadata"},
		{"POST", "vector_stores", `{"metadata":{"a":"` + strings.Repeat("x", 513) + `"}}`, 400, "metadata"},
		{"POST", "vector_stores", `{"file_ids":["` + missing + `"]}`, 404, ""},
		{"POST", "vector_stores", `{"file_ids":["x"]}`, 404, "file_ids[0]"},
		{"POST", attach, `{}`, 400, "file_id"},
		{"POST", attach, `{"file_id":"` + missing + `"}`, 404, ""},
		{"POST", attach, `{"file_id":"` + f + `","attributes":{"a":[1]}}`, 400, "attributes.a"},
		{"POST", attach, `{"file_id":"` + f + `","attributes":{"a":null}}`, 400, "attributes.a"},
		{"POST", attach, `{"file_id":"` + f + `","attributes":{"a":{"b":1}}}`, 400,
			"attributes.a"},
		{"POST", attach, `{"file_id":"` + f + `","attributes":[1]}`, 400, "attributes"},
		{"POST", attach, `{"file_id":"` + f + `","attributes":{` + strings.Join(many, ",") + `}}`,
			400, "attributes"},
		{"POST", attach, `{"file_id":"` + f + `","attributes":{"` + strings.Repeat("k", 65) +
			`":1}}`, 400, "attributes"},
		{"POST", attach, `{"file_id":"` + f + `","attributes":{"a":"` +
			strings.Repeat("x", 513) + `"}}`, 400, "attributes.a"},
		{"POST", attach, `{"file_id":"` + f + `","chunking_strategy":{"type":"other"}}`, 400,
			"chunking_strategy.type"},
		{"POST", attach, `{"file_id":"` + f + `","chunking_strategy":{"type":"static"}}`, 400,
			"chunking_strategy.static"},
		{"POST", attach, `{"file_id":"` + f +
			`"` + static + `"max_chunk_size_tokens":99,"chunk_overlap_tokens":0}}}`, 400,
			"chunking_strategy.static.max_chunk_size_tokens"},
		{"POST", attach, `{"file_id":"` + f +
			`"` + static + `"max_chunk_size_tokens":100,"chunk_overlap_tokens":51}}}`, 400,
			"chunking_strategy.static.chunk_overlap_tokens"},
		{"POST", "vector_stores/" + vs + "/files/" + f, `{"attributes":{}}`, 404, ""}, // it is not in the store
		{"GET", "vector_stores/" + vs + "/files?limit=101", "", 400, "limit"},
		{"GET", "vector_stores/" + vs + "/files?order=up", "", 400, "order"},
		{"GET", "vector_stores/" + vs + "/files?after=" + missing, "", 400, ""},
		{"GET", "vector_stores/" + vs + "/files?after=x", "", 400, "after"},
		{"GET", "vector_stores/" + vs + "/files?filter=done", "", 400, "filter"},
		{"GET", "vector_stores/" + vs + "/files?page=2", "", 400, "page"},
		{"POST", batches, `{}`, 400, "file_ids"},
		{"POST", batches, `{"file_ids":[` + ids + `]}`, 400, "file_ids"},
		{"POST", batches, `{"file_ids":["` + f + `","` + missing + `"]}`, 404, ""},
		{"POST", batches, `{"file_ids":["` + f + `"],"files":[{"file_id":"` + f + `"}]}`,
			400, "files"},
		{"POST", searching, `{}`, 400, "query"},
		{"POST", searching, `{"query":""}`, 400, "query"},
		{"POST", searching, `{"query":[]}`, 400, "query"},
		{"POST", searching, `{"query":[7]}`, 400, "query"},
		{"POST", searching, `{"query":"x","max_num_results":51}`, 400, "max_num_results"},
		{"POST", searching, `{"query":"x","max_num_results":0}`, 400, "max_num_results"},
		{"POST", searching, `{"query":"x","ranking_options":{"ranker":"best"}}`, 400,
			"ranking_options.ranker"},
		{"POST", searching, `{"query":"x","ranking_options":{"score_threshold":1.1}}`, 400,
			"ranking_options.score_threshold"},
		{"POST", searching,
			`{"query":"x","ranking_options":{"hybrid_search":{"embedding_weight":0,"text_weight":0}}}`, 400,
			"ranking_options.hybrid_search"},
		{"POST", searching, `{"query":"x","filters":{"type":"like","key":"a","value":"b"}}`, 400,
			"filters.type"},
		{"POST", searching, `{"query":"x","filters":{"type":"and","filters":[]}}`, 400,
			"filters.filters"},
		{"POST", searching, `{"query":"x","filters":{"type":"or","filters":[{"type":"in","key":"a",` +
			`"value":1}]}}`, 400, "filters.filters[0].value"},
		{"POST", "uploads", `{"bytes":0,"filename":"x","mime_type":"x","purpose":"assistants"}`, 400, "bytes"},
		{"POST", "uploads", `{"bytes":1,"filename":"x","mime_type":"x","purpose":"all"}`, 400, "purpose"},
		{"POST", "uploads", `{"bytes":1,"filename":"","mime_type":"x","purpose":"assistants"}`, 400, "filename"},
		{"POST", "files", `{}`, 400, ""},
		{"GET", "files?purpose=assistants&purpose=batch", "", 400, "purpose"},
		{"GET", "assistants", "", 404, ""}, {"POST", "batches", `{}`, 404, ""},
		{"PUT", "files", `{}`, 405, ""}, {"GET", "files/x/y", "", 404, ""},
	} {
		r := w.ask(c.method, "/openai/v1/"+c.path, key, c.body)
		if _, param := r.openAIError(t); r.StatusCode != c.status || param != c.param {
			t.Errorf(
				"%s %s %.100s: %d %s, want %d of %q",
				c.method,
				c.path,
				c.body,
				r.StatusCode,
				r.body,
				c.status,
				c.param,
			)
		}
	}
	// Names may collide: ids identify.
	for range 2 {
		w.openAIOK("POST", "vector_stores", key, `{"name":"same"}`)
	}
	reader := w.key(acme, access.KBRead)
	if r := w.ask("POST", "/openai/v1/vector_stores", reader, `{}`); r.StatusCode != 403 {
		t.Errorf("without the permission: %d", r.StatusCode)
	}
	if r := w.ask("GET", "/openai/v1/files", "sk-not-ours", ""); r.StatusCode != 401 {
		t.Errorf("another key: %d %s", r.StatusCode, r.body)
	}
}

// sql runs a statement that no request does, as the superuser.
func (w *world) sql(sql string) {
	w.t.Helper()
	if _, err := testkit.Connect(w.t, w.d.SuperuserURL()).Exec(w.t.Context(), sql); err != nil {
		w.t.Fatal(err)
	}
}

// openAIOK asks, and ends the test where the answer is an error.
func (w *world) openAIOK(method, path, key, body string, headers ...string) reply {
	w.t.Helper()
	r := w.ask(method, "/openai/v1/"+path, key, body, headers...)
	if r.StatusCode != 200 {
		w.t.Fatalf("%s %s: %d %s", method, path, r.StatusCode, r.body)
	}
	return r
}

// TestAnotherTenantsIDsAreNotThere asks with another tenant's key, and with a label that hides, in each path.
func TestAnotherTenantsIDsAreNotThere(t *testing.T) {
	w := serve(t)
	w.work()
	key := w.key(acme)
	client := w.openAIClient(key)
	f := w.form(key, "files", "file", "secret.md", handbook, "purpose", "assistants", "labels", "legal").text("id")
	u := w.openAIOK("POST", "uploads", key,
		`{"bytes":5,"filename":"x","mime_type":"x","purpose":"assistants","labels":["legal"]}`).text("id")
	part := w.form(key, "uploads/"+u+"/parts", "data", "x", "hello").text("id")
	vs := w.openAIOK("POST", "vector_stores", key, `{"name":"legal","labels":["legal"]}`).text("id")
	b := must[*openai.VectorStoreFileBatch](t)(client.VectorStores.FileBatches.NewAndPoll(t.Context(), vs,
		openai.VectorStoreFileBatchNewParams{FileIDs: []string{f}}, 100))
	if b.Status != "completed" {
		t.Fatalf("%s", b.RawJSON())
	}
	free := w.openAIOK("POST", "vector_stores", w.key(globex), `{}`).text("id")
	own := w.openAIOK("POST", "vector_stores", key, `{}`).text("id")
	for name, c := range map[string][2]string{"another tenant": {w.key(globex), free},
		"without the label": {w.keyOf(acme, access.KeyRequest{Labels: []string{"hr"},
			Permissions: []access.Permission{access.KBRead, access.KBWrite}}), own}} {
		other, free := c[0], c[1]
		at, empty := "vector_stores/"+vs, "vector_stores/"+free
		for _, ask := range [][3]string{
			{"GET", "files/" + f},
			{"GET", "files/" + f + "/content"},
			{"DELETE", "files/" + f},
			{"POST", "uploads/" + u + "/complete", `{"part_ids":["` + part + `"]}`},
			{"POST", "uploads/" + u + "/cancel"},
			{"GET", at},
			{"POST", at, `{"name":"mine"}`},
			{"DELETE", at},
			{"POST", at + "/search", `{"query":"pump"}`},
			{"GET", at + "/files"},
			{"POST", at + "/files", `{"file_id":"` + f + `"}`},
			{"POST", empty + "/files", `{"file_id":"` + f + `"}`},
			{"POST", "vector_stores", `{"file_ids":["` + f + `"]}`},
			{"GET", at + "/files/" + f},
			{"GET", empty + "/files/" + f},
			{"POST", at + "/files/" + f, `{"attributes":{"mine":true}}`},
			{"GET", at + "/files/" + f + "/content"},
			{"DELETE", at + "/files/" + f},
			{"POST", at + "/file_batches", `{"file_ids":["` + f + `"]}`},
			{"POST", empty + "/file_batches", `{"file_ids":["` + f + `"]}`},
			{"GET", at + "/file_batches/" + b.ID},
			{"GET", empty + "/file_batches/" + b.ID},
			{"POST", at + "/file_batches/" + b.ID + "/cancel"},
			{"GET", at + "/file_batches/" + b.ID + "/files"},
			{"GET", empty + "/file_batches/" + b.ID + "/files"},
		} {
			r := w.ask(ask[0], "/openai/v1/"+ask[1], other, ask[2])
			r.openAIError(t)
			if r.StatusCode != 404 {
				t.Errorf("%s: %s %s: %d %s", name, ask[0], ask[1], r.StatusCode, r.body)
			}
		}
		if r := w.formRaw(other, "uploads/"+u+"/parts", "data", "x", "mine"); r.StatusCode != 404 {
			t.Errorf("%s: a part: %d %s", name, r.StatusCode, r.body)
		}
		for _, list := range []string{"files", "vector_stores"} {
			if r := w.openAIOK("GET", list, other, ""); strings.Contains(r.body, f) || strings.Contains(r.body, vs) {
				t.Errorf("%s: %s: %s", name, list, r.body)
			}
		}
	}
	// Nothing of it was changed.
	if r := w.openAIOK("GET", "vector_stores/"+vs+"/files/"+f, key, ""); r.text("status") != "completed" ||
		strings.Contains(r.body, "mine") {
		t.Errorf("%s", r.body)
	}
	w.openAIOK("POST", "uploads/"+u+"/complete", key, `{"part_ids":["`+part+`"]}`)
}

// formRaw sends a form with a file behind its fields.
func (w *world) formRaw(key, path, field, filename, content string, fields ...string) reply {
	w.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := form.WriteField(fields[i], fields[i+1]); err != nil {
			w.t.Fatal(err)
		}
	}
	part, err := form.CreateFormFile(field, filename)
	if err == nil {
		_, err = part.Write([]byte(content))
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return w.ask("POST", "/openai/v1/"+path, key, b.String(), "Content-Type", form.FormDataContentType())
}

// form is formRaw that ends the test where the answer is an error.
func (w *world) form(key, path, field, filename, content string, fields ...string) reply {
	w.t.Helper()
	r := w.formRaw(key, path, field, filename, content, fields...)
	if r.StatusCode != 200 {
		w.t.Fatalf("%s: %d %s", path, r.StatusCode, r.body)
	}
	return r
}

// ids are those of a list.
func (r reply) ids() (ids []string) {
	all, _ := r.field("data").([]any)
	for _, one := range all {
		m, _ := one.(map[string]any)
		id, _ := m["id"].(string)
		ids = append(ids, id)
	}
	return ids
}

// TestOpenAIListsArePaged: forwards and backwards, in both orders, of files, vector stores and their files.
func TestOpenAIListsArePaged(t *testing.T) {
	w := serve(t)
	key := w.key(acme, access.KBRead, access.KBWrite)
	var files, stores []string
	for i := range 5 {
		files = append(files, w.form(key, "files", "file", fmt.Sprint(i), "x", "purpose", "user_data").text("id"))
		stores = append(stores, w.openAIOK("POST", "vector_stores", key, `{}`).text("id"))
	}
	for _, f := range files {
		w.openAIOK("POST", "vector_stores/"+stores[0]+"/files", key, `{"file_id":"`+f+`"}`)
	}
	for path, all := range map[string][]string{"files": files, "vector_stores": stores,
		"vector_stores/" + stores[0] + "/files": files} {
		for _, c := range []struct {
			query string
			want  []int
			more  bool
		}{
			{"limit=2&order=asc", []int{0, 1}, true}, {"limit=5&order=asc", []int{0, 1, 2, 3, 4}, false},
			{"limit=2", []int{4, 3}, true}, {"limit=2&order=asc&after={3}", []int{3, 4}, false},
			{"limit=2&order=asc&before={4}", []int{1, 2}, true}, {"limit=2&before={2}", []int{3, 2}, true},
			{"limit=9&order=asc&after={1}&before={5}", []int{1, 2, 3}, false}, {"after={1}", nil, false},
		} {
			query := strings.NewReplacer("{1}", all[0], "{2}", all[1], "{3}", all[2], "{4}", all[3], "{5}", all[4]).
				Replace(c.query)
			var want []string
			for _, i := range c.want {
				want = append(want, all[i])
			}
			r := w.openAIOK("GET", path+"?"+query, key, "")
			if !slices.Equal(r.ids(), want) || r.field("has_more") != c.more || r.text("object") != "list" ||
				len(want) > 0 && (r.text("first_id") != want[0] || r.text("last_id") != want[len(want)-1]) {
				t.Errorf("%s?%s: %s, want %v", path, c.query, r.body, c.want)
			}
		}
	}
	if r := w.openAIOK("GET", "files?purpose=batch", key, ""); len(r.ids()) != 0 {
		t.Errorf("of another purpose: %s", r.body)
	}
}
