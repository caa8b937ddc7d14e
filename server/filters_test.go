package server_test

import (
	"strings"
	"testing"

	"github.com/konstruct/konstruct/audit"
)

// TestSearchesTakeFilters: a search finds what meets its filter, which its event has, and another tenant nothing. What
// is wrong with a filter is said of its place, and nothing is recorded then.
func TestSearchesTakeFilters(t *testing.T) {
	w := serve(t)
	w.work()
	key, other := w.key(acme), w.key(globex)
	for name, metadata := range map[string]string{
		"a.md": `{"tags":["a","b"],"size":5,"nested":{"deep":"x"},"day":"2026-01-31"}`,
		"b.md": `{"tags":[],"size":"5","day":"xyz"}`,
	} {
		w.taken(key, w.upload(key, name, "# Pumps\nA pump draws oil, says "+name+".\n", "metadata",
			metadata))
	}
	search := func(key, rest string) reply {
		return w.want(200, "POST", "/v1/search", key, `{"text":"pump","mode":"lexical","duplicates":true,`+rest+`}`)
	}
	filter := func(kind, name, value string) string {
		return `{"type":"` + kind + `","key":"` + name + `","value":` + value + `}`
	}
	for _, c := range [][2]string{
		{filter("eq", "metadata.tags", `"b"`), "a.md"},
		{filter("ne", "metadata.tags", `"b"`), "b.md"},
		{filter("eq", "metadata.size", `5`), "a.md"},
		{filter("in", "metadata.size", `["5","6"]`), "b.md"},
		{filter("eq", "metadata.nested.deep", `"x"`), "a.md"},
		{filter("gte", "metadata.day", `"2026-01-01"`), "a.md"},
		{filter("exists", "metadata.nested", `false`), "b.md"},
		{`{"type":"and","filters":[` + filter("starts_with", "filename", `"a"`) + `]}`, "a.md"},
		{`{"type":"or","filters":[` + filter("eq", "metadata.none", `null`) + `,` +
			filter("eq", "filename", `"b.md"`) + `]}`,
			"b.md"},
	} {
		f, want := c[0], c[1]
		for _, rest := range []string{`"filter":` + f, `"filter":` + f + `,"where":["type=text/markdown"]`} {
			r := search(key, rest)
			hits, _ := r.field("hits").([]any)
			if hit, _ := hits[0].(map[string]any); len(hits) != 1 || hit["filename"] != want {
				t.Errorf("%s: %s", rest, r.body)
			}
			event := w.want(200, "GET", "/v1/events/"+r.text("event_id"), key, "")
			if !strings.Contains(event.body, `"filter":{`) {
				t.Errorf("%s is not recorded: %s", rest, event.body)
			}
			if r := search(other, rest); strings.Contains(r.body, "chunk_id") {
				t.Errorf("another tenant finds %s", r.body)
			}
		}
	}
	if r := search(key, `"filter":null`); !strings.Contains(r.body, "a.md") || !strings.Contains(r.body, "b.md") {
		t.Errorf("a null filter leaves %s", r.body)
	}
	before := w.count(acme, audit.Filter{Action: audit.ActionRetrieval})
	nested := func(n int) string {
		return strings.Repeat(`{"type":"and","filters":[`, n) + filter("eq", "title", `"x"`) + strings.Repeat(`]}`, n)
	}
	for _, c := range [][2]string{
		{`"x"`, "body.filter"},
		{`{}`, "body.filter"},
		{`[]`, "body.filter"},
		{nested(10), "body.filter" + strings.Repeat(".filters[0]", 10)},
		{nested(25), "body.filter" + strings.Repeat(".filters[0]", 10)},
		{nested(100), "body.filter"},
		{nested(35_000), "body.filter"},
		{filter("eq", "region", `"us"`), "body.filter.key"},
		{filter("eq", "metadata.a", `{}`), "body.filter.value"},
		{filter("eq", "metadata.a", `[[1]]`), "body.filter.value"},
		{filter("gt", "metadata.a", `true`), "body.filter.value"},
		{filter("eq", "version", `"2"`), "body.filter.value"},
		{filter("like", "title", `"2"`), "body.filter.type"},
		{`{"type":"eq","key":5,"value":5}`, "body.filter.key"},
		{`{"type":"and","filters":5}`, "body.filter.filters"},
		{`{"type":"and","filters":[{"type":"eq","key":"metadata.a..b","value":1}]}`,
			"body.filter.filters[0].key"},
		{`{"type":"eq","key":"metadata.a","value":1,"other":2}`, "body.filter.other"},
		{`{"type":"eq","key":"metadata.a","value":1,"value":2}`, "body.filter"},
		{filter("in", "metadata.a", `[`+strings.Repeat(`1,`, 1000)+`1]`), "body.filter.value"},
		{`{"type":"or","filters":[` + strings.Repeat(filter("eq", "title", `"x"`)+",", 100) +
			filter("eq", "title", `"x"`) + `]}`,
			"body.filter.filters"},
	} {
		f, want := c[0], c[1]
		r := w.ask("POST", "/v1/search", key, `{"text":"pump","filter":`+f+`}`)
		if !strings.Contains(r.body, `"location":"`+want+`"`) || r.StatusCode != 422 && r.StatusCode != 400 {
			t.Errorf("%.200s: %d %.600s, want %s", f, r.StatusCode, r.body, want)
		}
	}
	r := w.ask("POST", "/v1/search/batch", key, `{"questions":[{"text":"x"},{"text":"x","filter":`+nested(10)+`}]}`)
	if !strings.Contains(r.body, `"body.questions[1].filter`+strings.Repeat(".filters[0]", 10)+`"`) {
		t.Errorf("a batch: %d %s", r.StatusCode, r.body)
	}
	if after := w.count(acme, audit.Filter{Action: audit.ActionRetrieval}); after != before {
		t.Error("a refused search is on the trail")
	}
}
