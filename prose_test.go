package konstruct_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages are README, what stands beside it, and docs.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	if err != nil || len(docs) < 20 {
		t.Fatalf("%d pages, %v", len(docs), err)
	}
	return append(docs, "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
}

// prose calls a function with each line of a page that is prose: no code block, and with code between backticks and the
// addresses of links left out.
func prose(t *testing.T, page string, each func(number int, line, words string)) {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	fenced := false
	for i, line := range strings.Split(string(raw), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if !fenced {
			each(i+1, line, notWords.ReplaceAllString(line, ""))
		}
	}
}

var notWords = regexp.MustCompile("`[^`]*`|\\]\\([^)]*\\)|\"[^\"]*\"")

// privateWords are this house's own, by what to say instead: CONTRIBUTING.md has the table of terms.
var privateWords = map[string]*regexp.Regexp{
	"ingest":                       regexp.MustCompile(`\bt(ak(e|es|en|ing)|ook) (\w+ )?in\b(,| by|\.| later|;| and)`),
	"enqueue, give, pass":          regexp.MustCompile(`\bhand(s|ed|ing)? over\b`),
	"returned once":                regexp.MustCompile(`\btold once\b|\btold alike\b`),
	"verify against, compare with": regexp.MustCompile(`\b(held?|holds|holding) (\w+ )?(\w+ )?against\b`),
	"in progress":                  regexp.MustCompile(`\bunder way\b`),
	"unavailable":                  regexp.MustCompile(`\bwhile (it|the \w+) is away\b|\bdatabase away\b`),
	"access control labels":        regexp.MustCompile(`\bwho may find\b`),
	"failed, abandoned":            regexp.MustCompile(`\bg(a|i)ve(s|n)? up\b|\bgiving up\b`),
	"anchor":                       regexp.MustCompile(`\bcopy outside\b`),
	"statistics, metrics, numbers": regexp.MustCompile(`\b[Ff]igures\b`),
	"semantic, lexical, hybrid":    regexp.MustCompile(`\bby meaning\b|\bby words\b|\bby both([.,;:]|$)`),
	"alternately, fairly":          regexp.MustCompile(`\bin turns\b|\bdeals? out\b`),
	"skip":                         regexp.MustCompile(`\bpass(ed|es)? over\b`),
	"refused":                      regexp.MustCompile(`\bturned away\b|\bsent away\b`),
	"the caller":                   regexp.MustCompile(`\bwhoever asks\b`),
	"continue":                     regexp.MustCompile(`\bgo(es)? on where\b|\bgone on with\b`),
	"make again":                   regexp.MustCompile(`\bmakes? anew\b`),
	"of compliance":                regexp.MustCompile(`\bthe law's\b`),
}

// TestProseUsesTheTerms: one concept has one word, which the field already knows.
func TestProseUsesTheTerms(t *testing.T) {
	for _, page := range pages(t) {
		prose(t, page, func(number int, _, words string) {
			for say, pattern := range privateWords {
				if found := pattern.FindString(words); found != "" {
					t.Errorf("%s:%d says %q: say %s", page, number, found, say)
				}
			}
		})
	}
}

// TestLinksLeadSomewhere: a link to a file, and to a heading of it.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, page := range pages(t) {
		prose(t, page, func(number int, line, _ string) {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				links++
				file, heading, _ := strings.Cut(m[1], "#")
				path := page
				if file != "" {
					path = filepath.Join(filepath.Dir(page), file)
				}
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s:%d: %v", page, number, err)
				} else if heading != "" && !headings(t, path)[heading] {
					t.Errorf("%s:%d: %s has no heading #%s", page, number, path, heading)
				}
			}
		})
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
	raw, err := os.ReadFile("docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		if name, is := strings.CutPrefix(page, "docs/"); is && name != "README.md" &&
			!strings.Contains(string(raw), "("+name+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

// headings are the anchors that GitHub gives to a page's headings.
func headings(t *testing.T, page string) map[string]bool {
	t.Helper()
	found, odd := map[string]bool{}, regexp.MustCompile(`[^\p{L}\p{N}\- ]`)
	prose(t, page, func(_ int, line, _ string) {
		if text, is := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); is && strings.HasPrefix(line, "#") {
			found[strings.ReplaceAll(odd.ReplaceAllString(strings.ToLower(text), ""), " ", "-")] = true
		}
	})
	return found
}

// TestSentencesAreReadOnce: a sentence of more than forty words is read twice. A change's line may list more.
func TestSentencesAreReadOnce(t *testing.T) {
	ends, item := regexp.MustCompile(`[.:;?!]\s+`), regexp.MustCompile(`^\s*([-*]|\d+\.) `)
	for _, page := range pages(t) {
		if page == "CHANGELOG.md" {
			continue
		}
		begin, paragraph := 0, ""
		check := func() {
			for _, sentence := range ends.Split(paragraph, -1) {
				if n := len(strings.Fields(sentence)); n > 40 {
					t.Errorf("%s:%d has a sentence of %d words: %s", page, begin, n, sentence)
				}
			}
			paragraph = ""
		}
		prose(t, page, func(number int, line, _ string) {
			if line == "" || strings.ContainsAny(line[:1], "|#") || item.MatchString(line) {
				check()
				begin = number
			}
			if line != "" && !strings.ContainsAny(line[:1], "|#") {
				paragraph += line + " "
			}
		})
		check()
	}
}
