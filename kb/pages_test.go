package kb_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/fetch"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

// site serves what a test says, by path, with entity tags, and counts what it sends.
type site struct {
	url   string
	pages map[string]string
	sent  atomic.Int64
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{pages: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, is := s.pages[r.URL.RequestURI()]
		tag := fmt.Sprintf("%q", fmt.Sprintf("%x", len(page)))
		switch {
		case strings.HasPrefix(page, "away"):
			w.WriteHeader(http.StatusServiceUnavailable)
		case !is:
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == tag:
			w.WriteHeader(http.StatusNotModified)
		default:
			s.sent.Add(1)
			w.Header().Set("ETag", tag)
			fmt.Fprint(w, strings.ReplaceAll(page, "SITE", s.url))
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// pages lets a test's knowledge base read the sites of this machine.
func (b *base) pages(t *testing.T) {
	b.in.Fetcher = fetch.New(netip.MustParsePrefix("127.0.0.0/8"))
	t.Cleanup(b.in.Fetcher.Close)
}

// take takes paths in and returns what became of each, without the site's own address.
func (b *base) take(t *testing.T, s *site, paths ...string) map[string]string {
	t.Helper()
	got := map[string]string{}
	if err := b.in.Files(t.Context(), tenantA, agent, paths, kb.DocumentOptions{}, func(r kb.IngestResult) {
		what := string(r.Outcome)
		if r.Err != nil {
			what = r.Err.Error()
		}
		got[strings.TrimPrefix(r.Path, s.url)] = what
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPagesAreTakenInByTheirURL(t *testing.T) {
	b, s := newBase(t), newSite(t)
	b.pages(t)
	s.pages["/"] = "<html lang=en><title>Pumps</title><p>The pump draws water from the lake."
	s.pages["/all.zip?v=2"] = zipOf(t, entry{"keys.txt", "The keys hang behind the door."})
	s.pages["/empty"] = ""
	all := []string{s.url + "/", s.url + "/all.zip?v=2", s.url + "/empty", s.url + "/gone"}
	got := b.take(t, s, all...)
	if d := cmp.Diff(map[string]string{"/": "added", "/all.zip?v=2/keys.txt": "added", "/empty": "the file is empty",
		"/gone": "the site answers 404 Not Found"}, got); d != "" {
		t.Error(d)
	}
	sources := map[string]string{}
	for _, d := range b.list(t, tenantA) {
		sources[strings.TrimPrefix(d.Source, s.url)] = d.Filename + " " + d.Title + " " + d.FileInfo.Language
	}
	if d := cmp.Diff(map[string]string{"/": "127.0.0.1 Pumps en", "/all.zip?v=2#keys.txt": "keys.txt  "},
		sources); d != "" {
		t.Error(d)
	}
	if len(b.list(t, tenantB)) != 0 {
		t.Error("another tenant sees them")
	}
	sent := s.sent.Load()
	if got = b.take(t, s, s.url+"/"); got["/"] != "unchanged" || s.sent.Load() != sent {
		t.Errorf("a page that did not change is %q, sent %d times", got["/"], s.sent.Load()-sent)
	}
	s.pages["/"] += " And oil."
	if got = b.take(t, s, s.url+"/"); got["/"] != "replaced" {
		t.Errorf("a page that changed: %v", got)
	}
	b.in.Fetcher = nil
	if got = b.take(t, s, s.url+"/"); got["/"] != "pages are not read here" {
		t.Errorf("%v", got)
	}
}

func TestSitemapsAndFeedsAreTakenInPageByPage(t *testing.T) {
	b, s := newBase(t), newSite(t)
	b.pages(t)
	for _, n := range []string{"a", "b", "c"} {
		s.pages["/"+n] = "<title>" + n + "</title><p>What page " + n + " says."
	}
	s.pages["/index.xml"] =
		"<sitemapindex><sitemap><loc>SITE/map.xml</loc></sitemap>" +
			"<sitemap><loc>SITE/loop.xml</loc></sitemap></sitemapindex>"
	s.pages["/map.xml"] =
		"<urlset><url><loc>SITE/a</loc></url><url><loc>SITE/gone</loc></url>" +
			"<url><loc>http://127.0.0.2:1/other</loc></url></urlset>"
	s.pages["/loop.xml"] = "<sitemapindex><sitemap><loc>SITE/index.xml</loc></sitemap></sitemapindex>"
	s.pages["/feed"] =
		`<rss version="2.0"><channel><item><link>SITE/b</link></item><item><link>/c</link></item><item><link>` +
			`SITE/feed2</link></item></channel></rss>`
	s.pages["/feed2"] =
		`<rss version="2.0"><channel><title>A feed in a feed is a page</title><item><link>SITE/a</link></item>` +
			`</channel></rss>`
	got := b.take(t, s, s.url+"/index.xml", s.url+"/feed")
	want := map[string]string{"/a": "added", "/gone": "the site answers 404 Not Found", "/b": "added", "/c": "added",
		"/feed2":    "added",
		"/map.xml":  "it lies in 4 lists within each other, the limit is 3",
		"/loop.xml": "it lies in 4 lists within each other, the limit is 3"}
	if got["/a"] == "unchanged" { // the loop comes by it again
		got["/a"] = "added"
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Objects of a bucket are read again where their entity tag has changed.
func TestABucketIsTakenInByWhatChanged(t *testing.T) {
	place := testkit.Bucket(t, "docs")
	b := newBase(t)
	bucket, err := blob.OpenS3(place)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, text string) {
		if err := bucket.Write(t.Context(), name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	put("a.md", pumps)
	put("sub/b ü.txt", "The keys hang behind the door.")
	put("c.zip", zipOf(t, entry{"d.txt", "A text in an archive."}))
	put(".hidden/x.txt", "hidden")
	put("x.png", "\x89PNG\r\n\x1a\n00000000")
	got := b.take(t, &site{url: "s3://evidence/docs/"}, place)
	if d := cmp.Diff(map[string]string{"a.md": "added", "sub/b%20%C3%BC.txt": "added", "c.zip/d.txt": "added",
		"x.png": "skipped: image/png: not a kind of file that is read here (docs/formats.md lists them)"},
		got); d != "" {
		t.Error(d)
	}
	put("a.md", pumps+"\n## More\n\nOil it, too.\n")
	got = b.take(t, &site{url: "s3://evidence/docs/"}, place)
	if got["a.md"] != "replaced" || got["sub/b%20%C3%BC.txt"] != "unchanged" || got["c.zip/d.txt"] != "unchanged" {
		t.Errorf("%v", got)
	}
	if docs := b.list(t, tenantA); len(docs) != 3 || docs[0].Source != "s3://evidence/docs/a.md" ||
		docs[0].Version != 2 {
		t.Errorf("%+v", docs)
	}
}
