package server_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
	"github.com/konstruct/konstruct/tenantdb"
)

// mark stands in what a hidden document has, its name, metadata, title and text, and from in its source, by which
// strangers ask for it too: what they asked stands in their events and jobs.
const (
	mark = "zanzibar"
	from = "kilwa"
)

// labelled is a service with a document that has the label legal, and all that names it.
type labelled struct {
	*world
	every          string // a key with every label
	doc, job       string // their ids
	failed         string // a job that failed, of a document with the label
	upload, search string // an upload in pieces, and the event of a search that showed the document
	passage        string
	source         string
}

func withLabels(t *testing.T, change ...func(*server.Config)) *labelled {
	l := &labelled{world: serve(t, change...), source: "https://example.com/" + from}
	l.work()
	l.every = l.key(acme)
	last := func(at string) string { return at[strings.LastIndexByte(at, '/')+1:] }
	l.taken(l.every, l.world.upload(l.every, "open.md", "# Pumps\n\nA pump draws water."))
	handed := l.world.upload(l.every, mark+".md", "# The "+mark+" pump\n\nThe "+mark+" pump draws oil.", "labels",
		"legal", "source", l.source, "metadata", `{"team":"`+mark+`"}`)
	l.doc, l.job = last(l.taken(l.every, handed)), last(handed.Header.Get("Location"))
	// so that it has a version
	again := l.world.upload(l.every, mark+".md", "# The "+mark+" pump\n\nThe "+mark+" pump draws heavy oil.",
		"source", l.source)
	l.taken(l.every, again)
	bad := l.world.upload(l.every, mark+".pdf", "%PDF-1.4\n"+mark, "labels", "legal", "source", l.source+"/bad")
	l.failed = last(bad.Header.Get("Location"))
	l.soon("it fails", func() bool {
		return l.want(200, "GET", "/v1/jobs/"+l.failed, l.every, "").text("state") == "failed"
	})
	l.upload = l.want(201, "POST", "/v1/uploads", l.every, `{"filename":"`+mark+`.txt","size":3,"labels":["legal"]}`).
		text("id")
	l.want(204, "PATCH", "/v1/uploads/"+l.upload, l.every, "abc", "Content-Type", "application/octet-stream",
		"Upload-Offset", "0")
	found := l.want(200, "POST", "/v1/search", l.every, `{"text":"what draws oil"}`)
	l.search = found.text("event_id")
	hits, _ := found.field("hits").([]any)
	for _, h := range hits {
		if hit, _ := h.(map[string]any); hit["document_id"] == l.doc {
			l.passage, _ = hit["chunk_id"].(string)
		}
	}
	if l.passage == "" {
		t.Fatalf("the document is not found by who has every label: %s", found.body)
	}
	return l
}

// asks are the bodies that each operation on documents is sent; of the others those that read are asked alone.
func (l *labelled) asks() map[string][]string {
	return map[string][]string{
		"search": {`{"text":"pump draws oil"}`, `{"text":"zanzibra pump","mode":"lexical"}`,
			`{"text":"oil","mode":"semantic","neighbours":2}`, `{"text":"oil","per_document":true,"where":["source=` +
				l.source + `"]}`, `{"text":"oil","where":["label!=x"],"diversity":0.5}`,
			`{"text":"oil","labels":["legal"]}`},
		"searchBatch": {`{"questions":[{"text":"pump"},{"text":"oil","labels":["legal"]}]}`,
			`{"questions":[{"text":"pump"},{"text":"oil"}]}`},
		"explainSearch": {`{"text":"oil"}`, `{"text":"oil","mode":"lexical","labels":["legal"]}`},
		"createEvaluation": {`{"questions":[{"text":"oil","answers":{"` + l.source + `":1}}]}`,
			`{"questions":[{"text":"oil","answers":{"` + l.source + `":1}}],"labels":["legal"]}`},
		"tuneIndex": {""}, "updateLanguage": {`{"language":"auto"}`}, "updateServingModel": {`{"model":""}`},
		"deleteModel": {""},
		"listModels":  {""}, "listDocuments": {""}, "getDocument": {""}, "listDocumentVersions": {""}, "listJobs": {""},
		"getJob": {""}, "getUpload": {""}, "getPassage": {""},
		"createDocument": {"form"}, "createDocumentFromURL": {`{"url":"` + l.source + `"}`,
			`{"url":"http://127.0.0.1:1/","labels":["legal"]}`},
		"createUpload": {`{"filename":"x","size":1,"labels":["legal"]}`}, "appendUpload": {"d"}, "completeUpload": {""},
		"deleteUpload": {""}, "deleteDocument": {""},
		"cancelJobs": {`{"ids":["` + l.job + `","` + l.failed + `"]}`},
		"retryJobs":  {`{"ids":["` + l.job + `","` + l.failed + `"]}`},
		"deleteJobs": {`{"ids":["` + l.job + `","` + l.failed + `"]}`},
	}
}

// paths are all the places that an operation's path may name.
func (l *labelled) paths(path string) (all []string) {
	for _, id := range []string{l.doc, l.job, l.failed, l.upload, l.search, l.passage} {
		all = append(all, strings.NewReplacer("{id}", id, "{run}", id, "{level}", "0", "{index...}", "000", "{model}",
			"m").Replace(path))
	}
	return slices.Compact(all)
}

// TestLabelsAreHeldInEveryOperation asks every operation of the description about a document with a label, by
// everything that names it, as everybody: who was not granted the label learns nothing, and changes nothing.
func TestLabelsAreHeldInEveryOperation(t *testing.T) {
	issuer := testkit.NewIssuer(t)
	l := withLabels(t, people(t, issuer, nil))
	admit := func(labels string) string {
		l.want(201, "POST", "/v1/users", l.every, `{"issuer":"`+issuer.URL+`","subject":"`+testkit.IssuerSubject+
			`","role":"admin","labels":`+labels+`}`)
		return issuer.Token(t.Context())
	}
	raw, err := l.s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct {
			ID   string   `json:"operationId"`
			Tags []string `json:"tags"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(raw, &api); err != nil {
		t.Fatal(err)
	}
	asks := l.asks()
	// each asks all of it as somebody, and returns by which operations something of the document was told, and how.
	each := func(key string, changes bool) (told map[string]string) {
		told = map[string]string{}
		for path, item := range api.Paths {
			for method, op := range item {
				method = strings.ToUpper(method)
				bodies, known := asks[op.ID]
				if !known {
					if method != "GET" &&
						(slices.Contains(op.Tags, "Knowledge base") || slices.Contains(op.Tags, "Search")) {
						t.Errorf("%s is about documents: say what it is to be asked", op.ID)
					}
					if bodies = []string{""}; method != "GET" {
						continue
					}
				}
				if path == "/v1/events/stream" || !changes && method != "GET" &&
					!strings.HasPrefix(path, "/v1/search") && path != "/v1/evaluations" {
					continue
				}
				for _, at := range l.paths(path) {
					for _, body := range bodies {
						r := l.sent(method, at, key, body)
						own := op.ID == "listEvents" || op.ID == "getEvent" || strings.HasSuffix(op.ID, "Jobs") ||
							op.ID == "getJob"
						if said := r.body + fmt.Sprint(r.Header); strings.Contains(said, mark) ||
							strings.Contains(said, from) && !own {
							told[op.ID] = fmt.Sprintf("%s %s %s: %d %s", method, at, body, r.StatusCode, r.body)
						}
					}
				}
			}
		}
		return told
	}
	before := l.state()
	for name, key := range map[string]string{
		"a key without labels": l.keyOf(acme, access.KeyRequest{}),
		"a key of other labels": l.keyOf(acme,
			access.KeyRequest{Labels: []string{"hr", "LEGAL", "lega", "legal "}}),
		"another tenant's with the label": l.keyOf(globex, access.KeyRequest{Labels: []string{"legal"}}),
		"another tenant's with every one": l.key(globex),
		"a person without labels":         admit(`[]`),
	} {
		for op, answer := range each(key, true) {
			t.Errorf("%s: %s tells of the document: %s", name, op, answer)
		}
		if jobs := l.want(200, "GET", "/v1/jobs", key, "").body; strings.Contains(jobs, from) &&
			!strings.HasPrefix(name, "another tenant") {
			t.Errorf("%s: %s", name, jobs)
		}
		if now := l.state(); now != before {
			t.Fatalf("%s changed it:\n%s\nbefore:\n%s", name, now, before)
		}
	}
	// Who has the label is told of it by the same questions.
	shows := []string{"search", "searchBatch", "listDocuments", "getDocument", "listJobs", "getJob", "getPassage",
		"getEventRetrieval"}
	for name, key := range map[string]string{
		"a key with the label":   l.keyOf(acme, access.KeyRequest{Labels: []string{"legal", "hr"}}),
		"a key with every label": l.every, "a person with the label": admit(`["legal"]`),
	} {
		told := each(key, false)
		for _, op := range shows {
			if told[op] == "" {
				t.Errorf("%s learns nothing by %s: it was asked nothing that tells", name, op)
			}
		}
		if len(told) < len(shows) {
			t.Errorf("%s: %v", name, slices.Sorted(maps.Keys(told)))
		}
	}
}

// sent asks with what an operation takes.
func (l *labelled) sent(method, path, key, body string) reply {
	switch {
	case body == "form":
		return l.world.upload(key, "mine.md", "# Mine", "source", l.source)
	case method == "PATCH":
		return l.ask(method, path, key, body, "Content-Type", "application/octet-stream", "Upload-Offset", "3")
	}
	return l.ask(method, path, key, body)
}

// state is all there is of the document, as who has every label sees it.
func (l *labelled) state() string {
	l.t.Helper()
	var b strings.Builder
	for _, at := range []string{"/v1/documents/" + l.doc, "/v1/documents/" + l.doc + "/versions", "/v1/jobs/" + l.job,
		"/v1/jobs/" + l.failed, "/v1/uploads/" + l.upload} {
		fmt.Fprintln(&b, l.want(200, "GET", at, l.every, "").body)
	}
	return b.String()
}

// people are those of the provider, in acme, with labels by a claim where it is mapped.
func people(t *testing.T, issuer *testkit.Issuer, labels map[string][]string) func(*server.Config) {
	return func(c *server.Config) {
		i := access.Issuer{URL: issuer.URL, Audience: testkit.IssuerClient, Tenant: acme,
			Client: &http.Client{Timeout: 10 * time.Second}, Labels: labels}
		if labels != nil {
			i.LabelsClaim = "sub"
		}
		var err error
		if c.OIDC, err = access.NewAuthenticator(c.Konstruct.Door(), i); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLabelsAreNarrowedAndNeverWidened by whoever asks, hands over or gives away.
func TestLabelsAreNarrowedAndNeverWidened(t *testing.T) {
	issuer := testkit.NewIssuer(t)
	l := withLabels(t, people(t, issuer, map[string][]string{testkit.IssuerSubject: {"legal", "board"}}))
	own := l.keyOf(acme, access.KeyRequest{Labels: []string{"hr", "legal"}})
	hits := func(key, body string) (documents []string) {
		t.Helper()
		all, _ := l.want(200, "POST", "/v1/search", key, body).field("hits").([]any)
		for _, h := range all {
			hit, _ := h.(map[string]any)
			documents = append(documents, fmt.Sprint(hit["filename"]))
		}
		slices.Sort(documents)
		return slices.Compact(documents)
	}
	for body, want := range map[string][]string{
		`{"text":"pump"}`: {"open.md", mark + ".md"}, `{"text":"pump","labels":[]}`: {"open.md", mark + ".md"},
		`{"text":"pump","labels":["legal"]}`: {"open.md", mark + ".md"}, `{"text":"pump","labels":["hr"]}`: {"open.md"},
	} {
		if got := hits(own, body); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
	// What is asked for beyond is refused by its field.
	plain := l.keyOf(acme, access.KeyRequest{})
	id := l.want(200, "GET", "/v1/me", own, "").text("id")
	for _, c := range []struct{ method, path, key, body, at string }{
		{"POST", "/v1/search", plain, `{"text":"x","labels":["legal"]}`, "body.labels"},
		{"POST", "/v1/search", own, `{"text":"x","labels":["legal","board"]}`, "body.labels"},
		{"POST", "/v1/search/batch", own, `{"questions":[{"text":"x"},{"text":"x","labels":["board"]}]}`,
			"body.questions[1].labels"},
		{"POST", "/v1/search/explain", plain, `{"text":"x","labels":["legal"]}`, "body.labels"},
		{"POST", "/v1/evaluations", plain, `{"questions":[{"text":"x","answers":{"open.md":1}}],"labels":["legal"]}`,
			"body.labels"},
		{"POST", "/v1/documents/from-url", own, `{"url":"http://127.0.0.1:1/","labels":["board"]}`, "body.labels"},
		{"POST", "/v1/documents/from-url", plain, `{"url":"` + l.source + `"}`, "body.source"},
		{"POST", "/v1/uploads", own, `{"filename":"x","size":1,"labels":["board"]}`, "body.labels"},
		{"POST", "/v1/keys", own, `{"name":"x","permissions":["kb:read"],"labels":["legal","board"]}`, "body.labels"},
		{"POST", "/v1/keys", own, `{"name":"x","permissions":["kb:read"],"labels":["*"]}`, "body.labels"},
		{"PUT", "/v1/keys/" + id + "/labels", own, `{"labels":["*"]}`, "body.labels"},
		{"PUT", "/v1/keys/" + id + "/labels", plain, `{"labels":["hr"]}`, "body.labels"},
		{"POST", "/v1/keys/" + id + "/rotate", plain, `{"overlap_seconds":0}`, "path.id"},
		{"POST", "/v1/users", own, `{"issuer":"https://id.example","subject":"s","role":"viewer","labels":["board"]}`,
			"body.labels"},
	} {
		if r := l.want(403, c.method, c.path, c.key, c.body); !strings.Contains(r.body, `"location":"`+c.at+`"`) {
			t.Errorf("%s %s: %s, want %s", c.path, c.body, r.body, c.at)
		}
	}
	if r := l.world.upload(own, "x.md", "# X", "labels", "board"); r.StatusCode != 403 ||
		!strings.Contains(r.body, `"body.labels"`) {
		t.Errorf("an upload: %d %s", r.StatusCode, r.body)
	}
	for _, bad := range []string{`["*","hr"]`, `["hr","hr"]`, `[""]`, `["` + strings.Repeat("x", 101) + `"]`} {
		l.want(422, "PUT", "/v1/keys/"+id+"/labels", l.every, `{"labels":`+bad+`}`)
	}
	l.want(404, "PUT", "/v1/keys/"+id+"/labels", l.key(globex), `{"labels":["hr"]}`)
	l.want(403, "PUT", "/v1/keys/"+id+"/labels",
		l.keyOf(acme,
			access.KeyRequest{Permissions: []access.Permission{access.AccessRead},
				Labels: []string{tenantdb.AllLabelsName}}), `{"labels":["hr"]}`)
	// What is taken away is gone at once, also from what was rotated; what is said of who one is, is that.
	l.want(200, "PUT", "/v1/keys/"+id+"/labels", l.every, `{"labels":["hr"]}`)
	if got := hits(own, `{"text":"pump"}`); !slices.Equal(got, []string{"open.md"}) {
		t.Errorf("without the label it finds %v", got)
	}
	if n := l.count(acme, audit.Filter{Action: audit.ActionKeyLabels}); n != 1 {
		t.Errorf("%d events say that labels were granted", n)
	}
	// Neither is it told again what it was told with the label.
	again := func(status int, labels string) string {
		l.want(200, "PUT", "/v1/keys/"+id+"/labels", l.every, `{"labels":`+labels+`}`)
		return l.want(status, "POST", "/v1/search", own, `{"text":"pump"}`, "Idempotency-Key", "once").body
	}
	if told := again(200, `["legal"]`); !strings.Contains(told, mark) {
		t.Errorf("with the label: %s", told)
	}
	if told := again(422, `["hr"]`); strings.Contains(told, mark) {
		t.Errorf("told again: %s", told)
	}
	next := l.want(201, "POST", "/v1/keys/"+id+"/rotate", l.every, `{"overlap_seconds":60}`).text("secret")
	if me := l.want(200, "GET", "/v1/me", next, ""); fmt.Sprint(me.field("labels")) != "[hr]" {
		t.Errorf("rotated: %s", me.body)
	}
	if me := l.want(200, "GET", "/v1/me", plain, ""); !strings.Contains(me.body, `"labels":[]`) {
		t.Errorf("no labels: %s", me.body)
	}
	// A person has what the provider's claim grants beside what they were admitted with, which stays where it is not
	// said.
	admit := func(more string) {
		l.want(201, "POST", "/v1/users", l.every, `{"issuer":"`+issuer.URL+`","subject":"`+testkit.IssuerSubject+
			`","role":"viewer"`+more+`}`)
	}
	for _, more := range []string{`,"labels":["hr"]`, ``} {
		admit(more)
		if me := l.want(200, "GET", "/v1/me", issuer.Token(t.Context()),
			""); fmt.Sprint(me.field("labels")) != "[board hr legal]" {
			t.Errorf("a person: %s", me.body)
		}
	}
	if got := hits(issuer.Token(t.Context()), `{"text":"pump"}`); len(got) != 2 {
		t.Errorf("a person finds %v", got)
	}
}

// TestAJobReplacesNoDocumentThatItsMakerDoesNotSee although the document came between the upload and its turn.
func TestAJobReplacesNoDocumentThatItsMakerDoesNotSee(t *testing.T) {
	w := serve(t)
	every, plain := w.key(acme), w.keyOf(acme, access.KeyRequest{})
	first := w.upload(plain, "x.md", "# Mine\n\nOpen to all.", "source", "upload:shared")
	second := w.upload(every, "x.md", "# Secret\n\nFor counsel.", "source", "upload:shared", "labels", "legal")
	third := w.upload(plain, "x.md", "# Mine\n\nOpen to all, again.", "source", "upload:shared", "labels", "")
	if first.StatusCode != 202 || second.StatusCode != 202 || third.StatusCode == 500 {
		t.Fatal(first.body, second.body, third.body)
	}
	third = w.upload(plain, "x.md", "# Mine\n\nOpen to all, again.", "source", "upload:shared")
	w.work()
	at := w.taken(every, second)
	w.soon("the last job ends", func() bool {
		j := w.want(200, "GET", third.Header.Get("Location"), every, "")
		return j.text("state") != "queued" && j.text("state") != "running"
	})
	if j := w.want(200, "GET", third.Header.Get("Location"), every, ""); j.text("state") != "failed" ||
		!strings.Contains(j.text("reason"), "may not see") {
		t.Errorf("the last job: %s", j.body)
	}
	if d := w.want(200, "GET", at, every, ""); !strings.Contains(d.body, "For counsel.") ||
		fmt.Sprint(d.field("labels")) != "[legal]" {
		t.Errorf("the document: %s", d.body)
	}
	w.want(404, "GET", at, plain, "")
}

// TestAnArchiveReplacesNoDocumentThatItsMakerDoesNotSee, and what else it holds is ingested.
func TestAnArchiveReplacesNoDocumentThatItsMakerDoesNotSee(t *testing.T) {
	w := serve(t)
	w.work()
	every, plain := w.key(acme), w.keyOf(acme, access.KeyRequest{})
	archive := func(text string, names ...string) string {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, name := range names {
			f, err := z.Create(name)
			if err == nil {
				_, err = f.Write([]byte(text))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	over := func(key string, r reply, jobs int) (states string) {
		t.Helper()
		if r.StatusCode != 202 {
			t.Fatal(r.StatusCode, r.body)
		}
		w.soon("it is ingested", func() bool {
			states = w.want(200, "GET", "/v1/jobs", key, "").body
			return strings.Count(states, `"state":"done"`)+strings.Count(states, `"state":"failed"`) == jobs
		})
		return states
	}
	over(every, w.upload(every, "z.zip", archive("For counsel.", "a.md"), "source", "upload:z", "labels", "legal"), 2)
	states := over(plain, w.upload(plain, "z.zip", archive("Mine.", "0.md", "a.md", "b.md"), "source", "upload:z"), 4)
	if strings.Count(states, "may not see") != 1 || strings.Count(states, `"outcome":"added"`) != 2 {
		t.Errorf("the second archive's jobs: %s", states)
	}
	for _, d := range w.want(200, "GET", "/v1/documents", every, "").items() {
		doc, _ := d.(map[string]any)
		if whole := w.want(200, "GET", fmt.Sprintf("/v1/documents/%s", doc["id"]), every, "").
			body; strings.Contains(whole, "For counsel.") != (doc["source"] == "upload:z#a.md") {
			t.Errorf("%s", whole)
		}
	}
}

// TestTheTrailTellsNoWordOfAHiddenDocument: a search with a label finds what a word was taken for, and its event does
// not say it.
func TestTheTrailTellsNoWordOfAHiddenDocument(t *testing.T) {
	l := withLabels(t)
	r := l.want(200, "POST", "/v1/search", l.every, `{"text":"zanzibra","mode":"lexical"}`)
	if !strings.Contains(r.body, `"as":["`+mark+`"]`) {
		t.Fatalf("not forgiven: %s", r.body)
	}
	e := l.want(200, "GET", "/v1/events/"+r.text("event_id"), l.keyOf(acme, access.KeyRequest{}), "")
	if strings.Contains(e.body, mark) || !strings.Contains(e.body, "zanzibra") ||
		e.text("action_type") != audit.ActionRetrieval {
		t.Errorf("the event: %s", e.body)
	}
	hidden := l.want(200, "GET", "/v1/events/"+l.search+"/retrieval", l.keyOf(acme, access.KeyRequest{}), "")
	if !strings.Contains(hidden.body, `"state":"hidden"`) || strings.Contains(hidden.body, mark) {
		t.Errorf("shown: %s", hidden.body)
	}
	if _, is := tenantdb.Granted(t.Context()); is {
		t.Error("a context is granted labels by nobody")
	}
}

// TestASearchOfEveryLabel is for those who were granted every label; the reason names its field once.
func TestASearchOfEveryLabel(t *testing.T) {
	w := serve(t)
	all, some := w.key(acme), w.keyOf(acme, access.KeyRequest{Labels: []string{"legal"}})
	w.want(200, "POST", "/v1/search", all, `{"text":"x","labels":["*"]}`)
	w.want(200, "POST", "/v1/search/explain", all, `{"text":"x","labels":["*"]}`)
	w.want(403, "POST", "/v1/search", some, `{"text":"x","labels":["*"]}`)
	for _, labels := range []string{`["legal","*"]`, `[""]`} {
		r := w.want(422, "POST", "/v1/search", all, `{"text":"x","labels":`+labels+`}`)
		if detail := r.text("detail"); !strings.HasPrefix(detail, "body.labels: ") ||
			strings.Contains(detail, ": labels: ") {
			t.Errorf("%s: %s", labels, detail)
		}
	}
}
