package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLinksOfSitemapsAndFeeds(t *testing.T) {
	const at = "https://example.com/list.xml"
	for name, c := range map[string]struct {
		page string
		want []string
	}{
		"sitemap": {
			`<?xml version="1.0" encoding="UTF-8"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url>
			<loc>https://example.com/a</loc><lastmod>2026-01-01</lastmod></url>
			<url><loc> https://example.com/b?x=1&amp;y=2 </loc></url><url><loc>https://example.com/a#part</loc></url>
			<url><loc>https://elsewhere.example/</loc></url><url><loc>file:///etc/passwd</loc></url></urlset>`,
			[]string{"https://example.com/a", "https://example.com/b?x=1&y=2"}},
		"index": {
			`<sitemapindex><sitemap><loc>https://example.com/s1.xml</loc></sitemap><sitemap><loc>` +
				`https://example.com/list.xml</loc></sitemap></sitemapindex>`, []string{"https://example.com/s1.xml"}},
		"RSS 2.0": {
			`<rss version="2.0"><channel><title>News</title><item><title>One</title><link>` +
				`https://example.com/1</link></item><item><link>/2</link></item></channel></rss>`,
			[]string{"https://example.com/1", "https://example.com/2"}},
		"Atom": {
			`<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title><entry><link rel="alternate" ` +
				`href="https://other.example/1"/></entry></feed>`, []string{"https://other.example/1"}},
		"RSS 1.0": {
			`<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"><item ` +
				`rdf:about="x"><link>https://example.com/3</link></item></rdf:RDF>`, []string{"https://example.com/3"}},
	} {
		pages, maps, err := Links(at, []byte(c.page))
		got := append(pages, maps...)
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
	for name, page := range map[string]string{"HTML": "<!doctype html><html><p>x",
		"XML": "<book><loc>https://example.com/</loc></book>", "nothing": "",
		"deep": "<rss>" + strings.Repeat("<a>", 200_000)} {
		if got, _, err := Links(at, []byte(page)); !errors.Is(err, ErrNoList) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, _, err := Links(at,
		[]byte("<urlset>"+strings.Repeat("<url><loc>https://example.com/x</loc></url>", 10))); err == nil {
		t.Error("a sitemap that is cut off is taken for whole")
	}
	var many strings.Builder
	for i := range MaxLinks + 1 {
		fmt.Fprintf(&many, "<url><loc>https://example.com/%d</loc></url>", i)
	}
	if _, _, err := Links(at, []byte("<urlset>"+many.String()+"</urlset>")); !errors.Is(err, ErrLarge) {
		t.Errorf("too many: %v", err)
	}
}

// A page that has not changed is not sent again, whichever way its site says so.
func TestConditionalRequests(t *testing.T) {
	changed := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	at := site(t, "", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tag":
			w.Header().Set("ETag", `W/"17"`)
			if r.Header.Get("If-None-Match") == `W/"17"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		case "/time":
			w.Header().Set("Last-Modified", changed.Format(http.TimeFormat))
			if r.Header.Get("If-Modified-Since") == changed.Format(http.TimeFormat) {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		case "/away":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/never": // says so to whoever does not ask
			w.WriteHeader(http.StatusNotModified)
		}
		fmt.Fprint(w, "words")
	})
	c := client(t, loopback)
	for path, want := range map[string]string{"/tag": `W/"17"`, "/time": changed.Format(http.TimeFormat),
		"/plain": ""} {
		page, err := c.Get(t.Context(), at+path, "", 1000)
		if err != nil || page.ETag != want {
			t.Errorf("%s: %+v, %v", path, page, err)
		}
		if page, err = c.Get(t.Context(), at+path, page.ETag, 1000); want != "" && !errors.Is(err, ErrUnchanged) ||
			want == "" && (err != nil || len(page.Raw) == 0) {
			t.Errorf("%s again: %+v, %v", path, page, err)
		}
	}
	if _, err := c.Get(t.Context(), at+"/away", "", 1000); !errors.Is(err, ErrAway) {
		t.Errorf("a site that is unavailable: %v", err)
	}
	if _, err := c.Get(t.Context(), at+"/never", "", 1000); err == nil || errors.Is(err, ErrUnchanged) {
		t.Errorf("not modified, unasked: %v", err)
	}
	if _, err := c.Get(t.Context(), "http://127.0.0.1:1/", "", 1000); !errors.Is(err, ErrAway) {
		t.Errorf("nobody there: %v", err)
	}
}
