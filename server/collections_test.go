package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
)

// TestCollectionsOverHTTP makes a collection, fills it by an upload and by hand, searches it, and takes it apart; and
// tries each path as another tenant.
func TestCollectionsOverHTTP(t *testing.T) {
	w := serve(t)
	w.work()
	key, other, viewer := w.key(acme), w.key(globex), w.key(acme, access.KBRead)
	made := w.want(201, "POST", "/v1/collections", key,
		`{"name":"handbook","description":"d","metadata":{"owner":"hr"},"expires_after_days":30}`)
	at := made.Header.Get("Location")
	if at != "/v1/collections/"+made.text("id") || made.text("name") != "handbook" {
		t.Errorf("made: %s at %q", made.body, at)
	}
	w.want(409, "POST", "/v1/collections", key, `{"name":"handbook"}`)
	w.want(201, "POST", "/v1/collections", other, `{"name":"handbook"}`) // names are a tenant's own
	w.want(403, "POST", "/v1/collections", viewer, `{"name":"mine"}`)

	document := w.taken(key, w.upload(key, "handbook.md", handbook, "collections", "handbook", "attributes",
		`{"region":"eu","year":2026}`))
	apart := w.taken(key, w.upload(key, "other.md", "A pump is no toy."))
	listed := w.want(200, "GET", at+"/documents", viewer, "")
	if len(listed.items()) != 1 || !strings.Contains(listed.body, `"region":"eu"`) {
		t.Errorf("listed: %s", listed.body)
	}
	search := func(key, body string) (hits []any, event string) {
		t.Helper()
		r := w.want(200, "POST", "/v1/search", key, body)
		hits, _ = r.field("hits").([]any)
		return hits, r.text("event_id")
	}
	all, _ := search(key, `{"text":"Where do pumps go?","top_k":10}`)
	some, event := search(key, `{"text":"Where do pumps go?","top_k":10,"collections":["handbook"]}`)
	if len(all) != 3 || len(some) != 2 {
		t.Errorf("%d passages, %d in the collection", len(all), len(some))
	}
	if e := w.want(200, "GET", "/v1/events/"+event, key, ""); !strings.Contains(e.body, made.text("id")) {
		t.Errorf("the event does not name the collection: %s", e.body)
	}
	if e := w.want(200, "POST", "/v1/search/explain", key,
		`{"text":"pump","collections":["handbook"]}`); e.text("tier") != "exact" {
		t.Errorf("explained: %s", e.body)
	}
	put := at + "/documents/" + strings.TrimPrefix(apart, "/v1/documents/")
	if r := w.want(200, "PUT", put, key, `{"attributes":{"n":1.5,"b":true}}`); r.field("attributes", "n") != 1.5 {
		t.Errorf("added: %s", r.body)
	}
	if some, _ = search(key, `{"text":"Where do pumps go?","top_k":10,"collections":["handbook"]}`); len(some) != 3 {
		t.Errorf("%d passages after another document joined", len(some))
	}
	changed := w.want(200, "PATCH", at, key, `{"name":"rules","expires_after_days":0}`)
	if changed.text("name") != "rules" || changed.text("description") != "d" ||
		strings.Contains(changed.body, "expires_after_days") {
		t.Errorf("changed: %s", changed.body)
	}

	for _, c := range []struct{ method, path, body string }{
		{"GET", at, ""}, {"PATCH", at, `{"name":"x"}`}, {"DELETE", at, ""}, {"GET", at + "/documents", ""},
		{"PUT", put, `{}`}, {"DELETE", put, ""},
	} {
		if r := w.ask(c.method, c.path, other, c.body); r.StatusCode != 404 {
			t.Errorf("another tenant: %s %s: %d %s", c.method, c.path, r.StatusCode, r.body)
		}
		if c.method != "GET" {
			w.want(403, c.method, c.path, viewer, c.body)
		}
	}
	for name, collections := range map[string]string{"another tenant's name": `"rules"`,
		"another tenant's id": `"` + made.text("id") + `"`} {
		r := w.ask("POST", "/v1/search", other, `{"text":"pump","collections":[`+collections+`]}`)
		if r.StatusCode != 422 || !strings.Contains(r.body, "body.collections") {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	theirs := w.taken(other, w.upload(other, "theirs.md", "Theirs."))
	w.want(404, "PUT", at+"/documents/"+strings.TrimPrefix(theirs, "/v1/documents/"), key, `{}`)

	w.want(200, "DELETE", put, key, "")
	w.want(404, "DELETE", put, key, "")
	w.want(200, "DELETE", at, key, "")
	w.want(404, "GET", at, key, "")
	w.want(200, "GET", document, key, "") // documents stay
	if n := w.count(acme, audit.Filter{Action: audit.ActionCollection}); n != 5 {
		t.Errorf("%d events of 5 changes", n)
	}
}

// TestCollectionsThatCantBe sends what is refused, and looks for the field in each answer.
func TestCollectionsThatCantBe(t *testing.T) {
	w := serve(t)
	key := w.key(acme)
	many := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprintf(`"k%d":%d`, i, i)
	}
	at := w.want(201, "POST", "/v1/collections", key, `{"name":"c"}`).Header.Get("Location")
	entry := at + "/documents/00000000-0000-4000-8000-000000000001"
	for _, c := range []struct{ method, path, body, field string }{
		{"POST", "/v1/collections", `{}`, "body.name"},
		{"POST", "/v1/collections", `{"name":" "}`, "body.name"},
		{"POST", "/v1/collections", `{"name":"` + strings.Repeat("x", 257) + `"}`, "body.name"},
		{"POST", "/v1/collections", `{"name":"a\u0000"}`, "body.name"},
		{"POST", "/v1/collections", `{"name":"a","expires_after_days":-1}`, "body.expires_after_days"},
		{"POST", "/v1/collections", `{"name":"a","expires_after_days":4000}`, "body.expires_after_days"},
		{"POST", "/v1/collections", `{"name":"a","metadata":[]}`, "body.metadata"},
		{"POST", "/v1/collections", `{"name":"a","labels":[""]}`, "body.labels"},
		{"POST", "/v1/collections", `{"name":"a","nonsense":1}`, "body"},
		{"PUT", entry, `{"attributes":{` + strings.Join(many, ",") + `}}`, "body.attributes"},
		{"PUT", entry, `{"attributes":{"k":{}}}`, "body.attributes.k"},
		{"PUT", entry, `{"attributes":{"k":["a"]}}`, "body.attributes.k"},
		{"PUT", entry, `{"attributes":{"k":null}}`, "body.attributes.k"},
		{"PUT", entry, `{"attributes":{"k":"` + strings.Repeat("x", 513) + `"}}`, "body.attributes.k"},
		{"PUT", entry, `{"attributes":"x"}`, "body.attributes"},
		{"POST", "/v1/search", `{"text":"x","collections":["none"]}`, "body.collections"},
		{"POST", "/v1/search", `{"text":"x","collections":[""]}`, "body.collections"},
	} {
		if r := w.ask(c.method, c.path, key, c.body); r.StatusCode != 422 ||
			!strings.Contains(r.body, `"location":"`+c.field) {
			t.Errorf("%s %s %.60s: %d %s", c.method, c.path, c.body, r.StatusCode, r.body)
		}
	}
	w.want(404, "PUT", entry, key, `{}`)
	if r := w.upload(key, "a.md", "a", "attributes", `{"k":1}`); r.StatusCode != 422 {
		t.Errorf("attributes without a collection: %d %s", r.StatusCode, r.body)
	}
}
