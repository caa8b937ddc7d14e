package fetch

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/mmcdole/gofeed"
)

// MaxLinks is the largest number of pages in a sitemap or feed (the limit of sitemaps.org).
const MaxLinks = 50_000

// ErrNoList means that a page is neither a sitemap nor a feed.
var ErrNoList = errors.New("it is no sitemap, RSS or Atom feed")

// Links returns the pages listed in a sitemap (sitemaps.org), or in an RSS or Atom feed, that was read from at; for a
// sitemap index, the sitemaps. For any other page the error is ErrNoList. Links of a sitemap to other hosts are
// ignored.
func Links(at string, page []byte) (pages, maps []string, err error) {
	base, err := url.Parse(at)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	switch rootOf(page) {
	case "urlset", "sitemapindex":
		if pages, maps, err = sitemap(page); err == nil {
			pages, maps = absolute(base, base.Host, pages), absolute(base, base.Host, maps)
		}
	case "rss", "feed", "RDF":
		if pages, err = feed(page); err == nil {
			pages = absolute(base, "", pages)
		}
	default:
		err = ErrNoList
	}
	if n := len(pages) + len(maps); err == nil && n > MaxLinks {
		err = fmt.Errorf("%w: it names %d pages, the limit is %d", ErrLarge, n, MaxLinks)
	}
	if err != nil {
		return nil, nil, err
	}
	return pages, maps, nil
}

// absolute resolves links, and omits duplicates, invalid ones, the base itself and, if a host is given, links to other
// hosts.
func absolute(base *url.URL, host string, links []string) (all []string) {
	seen := map[string]bool{base.String(): true}
	for _, l := range links {
		u, err := base.Parse(strings.TrimSpace(l))
		if err != nil || readable(u) != nil || host != "" && u.Host != host {
			continue
		}
		u.Fragment = ""
		if s := u.String(); !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	return all
}

// maxDepth limits the nesting of elements, because parsers recurse.
const maxDepth = 100

// rootOf returns the name of the outermost element; empty if there is none or the nesting is too deep.
func rootOf(page []byte) (name string) {
	d := xml.NewDecoder(bytes.NewReader(page))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // a name is ASCII
	d.Strict = false
	for depth := 0; ; {
		t, err := d.RawToken()
		if err != nil {
			return name
		}
		switch e := t.(type) {
		case xml.StartElement:
			if name == "" {
				name = e.Name.Local
			}
			if depth++; depth > maxDepth {
				return ""
			}
		case xml.EndElement:
			depth--
		}
	}
}

func sitemap(page []byte) (pages, maps []string, err error) {
	var s struct {
		Pages []string `xml:"url>loc"`
		Maps  []string `xml:"sitemap>loc"`
	}
	if err := xml.Unmarshal(page, &s); err != nil {
		return nil, nil, fmt.Errorf("read the sitemap: %w", err)
	}
	return s.Pages, s.Maps, nil
}

func feed(page []byte) (links []string, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser's own failure on this page
			err = fmt.Errorf("read the feed: %v", r)
		}
	}()
	f, err := gofeed.NewParser().Parse(bytes.NewReader(page))
	if err != nil {
		return nil, fmt.Errorf("read the feed: %w", err)
	}
	for _, i := range f.Items {
		links = append(links, i.Link)
	}
	return links, nil
}
