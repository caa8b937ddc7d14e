package chunk_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/internal/devpg"
)

func tokenizer(t testing.TB) *embed.Tokenizer {
	t.Helper()
	m, err := embed.FindModel(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	tk, err := embed.LoadTokenizer(m.Tokenizer())
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func split(d *extract.Document, tk *embed.Tokenizer) (chunks []chunk.Chunk) {
	chunk.Split(d, tk, func(c chunk.Chunk) bool { chunks = append(chunks, c); return true })
	return chunks
}

// holds checks what every chunk of every document must hold.
func holds(t *testing.T, tk *embed.Tokenizer, chunks []chunk.Chunk) {
	t.Helper()
	for i, c := range chunks {
		if n := len(tk.Encode(c.Embed)) + 2; n > chunk.MaxTokens || n != c.Tokens {
			t.Errorf("chunk %d says %d tokens and has %d, the limit is %d: %.80q", i, c.Tokens, n,
				chunk.MaxTokens, c.Content)
		}
		if strings.TrimSpace(c.Content) == "" || !utf8.ValidString(c.Content) ||
			!strings.HasSuffix(c.Embed, c.Content) {
			t.Errorf("chunk %d: %q", i, c.Content)
		}
		if c.Start >= c.End || i > 0 && c.End < chunks[i-1].Start {
			t.Errorf("chunk %d covers %d-%d after %d-%d", i, c.Start, c.End, chunks[max(0, i-1)].Start,
				chunks[max(0, i-1)].End)
		}
	}
}

func TestSectionsDoNotMix(t *testing.T) {
	tk := tokenizer(t)
	var x extract.Extractor
	d, err := x.Extract(t.Context(), "text/markdown", []byte("# Guide\n\nIntro.\n\n## Install\n\nRun it. Then "+
		"wait.\n\n- one\n- two\n\n### Linux\n\nUse apt.\n\n## Use\n\n```\na = 1\nb = 2\n```\n"))
	if err != nil {
		t.Fatal(err)
	}
	chunks := split(d, tk)
	holds(t, tk, chunks)
	var got []string
	for _, c := range chunks {
		got = append(got, strings.Join(c.Headings, " > ")+": "+c.Content)
	}
	want := []string{"Guide: Intro.", "Guide > Install: Run it. Then wait.\none\ntwo",
		"Guide > Install > Linux: Use apt.", "Guide > Use: a = 1\nb = 2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestATitleThatTheFirstHeadingRepeatsStandsOnce(t *testing.T) {
	d := &extract.Document{Title: "20.5. Write Ahead Log",
		Blocks: []extract.Block{{Kind: extract.Heading, Level: 2, Text: "20.5.\u00a0Write  Ahead Log", End: 22},
			{Text: "The text.", Start: 23, End: 32}}}
	chunks := split(d, tokenizer(t))
	if len(chunks) != 1 || strings.Join(chunks[0].Headings, "|") != "20.5. Write Ahead Log" {
		t.Errorf("%+v", chunks)
	}
}

func TestLongSectionsBreakBetweenSentencesAndOverlap(t *testing.T) {
	tk := tokenizer(t)
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "Sentence number %d speaks of prisms and lenses. ", i)
	}
	raw := b.String()
	var x extract.Extractor
	d, err := x.Extract(t.Context(), "text/plain", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	chunks := split(d, tk)
	holds(t, tk, chunks)
	for i, c := range chunks {
		if !strings.HasPrefix(c.Content, "Sentence number ") || !strings.HasSuffix(c.Content, "lenses.") {
			t.Errorf("chunk %d is not whole sentences: %q", i, c.Content)
		}
		if strings.TrimSpace(raw[c.Start:c.End]) != c.Content {
			t.Errorf("chunk %d covers %q and says %q", i, raw[c.Start:c.End], c.Content)
		}
		if i > 0 && (c.Start >= chunks[i-1].End || len(tk.Encode(raw[c.Start:chunks[i-1].End])) > chunk.Overlap) {
			t.Errorf("chunk %d overlaps the one before by %d bytes", i, chunks[i-1].End-c.Start)
		}
	}
	if len(chunks) < 5 {
		t.Errorf("%d chunks", len(chunks))
	}
}

func TestALongExplanationStandsUnderItsTerm(t *testing.T) {
	tk := tokenizer(t)
	long := strings.Repeat("After a crash a page may be half old and half new. ", 10)
	d := &extract.Document{Title: "Settings", Blocks: []extract.Block{
		{Text: "Before.", End: 7},
		{Kind: extract.Item, Text: "short", Term: "short", Start: 8, End: 13}, {Text: "Is short.", Term: "short",
			Start: 14, End: 23},
		{Kind: extract.Item, Text: "full_page_writes", Term: "full_page_writes", Start: 24, End: 40},
		{Text: long, Term: "full_page_writes", Start: 41, End: 41 + len(long)},
		{Text: "After.", Start: 600, End: 606},
	}}
	chunks := split(d, tk)
	holds(t, tk, chunks)
	var got []string
	for _, c := range chunks {
		got = append(got, strings.Join(c.Headings, " > ")+": "+c.Content[:min(24, len(c.Content))])
	}
	want := []string{"Settings: Before.\nshort\n\nIs short.", "Settings > full_page_writes: full_page_writes\n\nAfter ",
		"Settings: After."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNothingIsLostFromAWordOrLineLongerThanAChunk(t *testing.T) {
	tk := tokenizer(t)
	for name, text := range map[string]string{
		"no space":    strings.Repeat("x1-", 3000),
		"no sentence": strings.Repeat("word ", 3000),
		"ideographs":  strings.Repeat("光的折射与反射", 500),
		"ligatures":   strings.Repeat("ﬁ½", 1000),
		"one word":    strings.Repeat("a", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			var x extract.Extractor
			d, err := x.Extract(t.Context(), "text/plain", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			chunks := split(d, tk)
			holds(t, tk, chunks)
			if got := tokens(tk, chunks); got < len(tk.Encode(text)) {
				t.Errorf("chunks hold %d tokens of %d", got, len(tk.Encode(text)))
			}
			at := 0
			for i, c := range chunks {
				if strings.TrimSpace(text[min(at, c.Start):max(at, c.Start)]) != "" && c.Start > at {
					t.Errorf("chunk %d begins at %d, the one before ended at %d", i, c.Start, at)
				}
				at = c.End
			}
			if at < len(strings.TrimSpace(text)) {
				t.Errorf("chunks end at %d of %d", at, len(text))
			}
		})
	}
}

func tokens(tk *embed.Tokenizer, chunks []chunk.Chunk) (n int) {
	for _, c := range chunks {
		n += len(tk.Encode(c.Content))
	}
	return n
}

func TestALongHeadingPathLeavesRoom(t *testing.T) {
	tk := tokenizer(t)
	d := &extract.Document{Title: strings.Repeat("very long title ", 100),
		Blocks: []extract.Block{{Text: "The text.", End: 9}}}
	chunks := split(d, tk)
	holds(t, tk, chunks)
	if len(chunks) != 1 || chunks[0].Embed != "The text." {
		t.Errorf("%+v", chunks)
	}
}

func TestRealDocumentsKeepTheirWords(t *testing.T) {
	tk := tokenizer(t)
	var x extract.Extractor
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"doc/go_spec.html", "doc/go_mem.html", "doc/godebug.md",
		"src/testdata/Isaac.Newton-Opticks.txt"} {
		raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), name))
		if err != nil {
			t.Fatal(err)
		}
		kind, err := extract.Type(name, raw)
		if err != nil {
			t.Fatal(err)
		}
		d, err := x.Extract(t.Context(), kind, raw)
		if err != nil {
			t.Fatal(err)
		}
		chunks := split(d, tk)
		holds(t, tk, chunks)
		have := map[string]bool{}
		for _, c := range chunks {
			for _, w := range strings.Fields(c.Content) {
				have[w] = true
			}
			for _, h := range c.Headings {
				for _, w := range strings.Fields(h) {
					have[w] = true
				}
			}
		}
		lost := 0
		for _, b := range d.Blocks {
			if b.Kind != extract.Heading {
				for _, w := range strings.Fields(b.Text) {
					if !have[w] {
						lost++
						t.Logf("%s: lost %q", name, w)
					}
				}
			}
		}
		if lost > 0 {
			t.Errorf("%s: %d words are in no chunk", name, lost)
		}
		sizes := make([]int, len(chunks))
		for i, c := range chunks {
			sizes[i] = c.Tokens
		}
		slices.Sort(sizes)
		t.Logf("%s: %d blocks, %d chunks, median %d tokens", name, len(d.Blocks), len(chunks), sizes[len(sizes)/2])
	}
}

func FuzzSplit(f *testing.F) {
	tk := tokenizer(f)
	f.Add("# A\n\nb. c? d!\n\n- e", "text/markdown")
	f.Add("<h1>x</h1><p>a&amp;b<pre>c\nd", "text/html")
	f.Add(strings.Repeat("ﬁ½ é\u0301", 300), "text/plain")
	var x extract.Extractor
	f.Fuzz(func(t *testing.T, raw, kind string) {
		if kind == "application/pdf" {
			return // extract's own fuzz test has it
		}
		d, err := x.Extract(context.Background(), kind, []byte(raw))
		if err != nil {
			return
		}
		chunks := split(d, tk)
		for i, c := range chunks {
			if n := len(tk.Encode(c.Embed)) + 2; n > chunk.MaxTokens {
				t.Errorf("chunk %d has %d tokens", i, n)
			}
			if c.Start > c.End || c.Start < 0 {
				t.Errorf("chunk %d covers %d-%d of %d", i, c.Start, c.End, len(raw))
			}
		}
	})
}

func TestALongTableRepeatsItsHeader(t *testing.T) {
	tk := tokenizer(t)
	const head = "Pump | Flow | Pressure"
	d := &extract.Document{Blocks: []extract.Block{{Kind: extract.Heading, Level: 1, Text: "Limits"}}}
	at := 0
	add := func(b extract.Block) {
		b.Start, b.End = at, at+len(b.Text)
		at = b.End + 1
		d.Blocks = append(d.Blocks, b)
	}
	add(extract.Block{Kind: extract.Row, Text: head})
	for i := range 300 {
		add(extract.Block{Kind: extract.Row, Text: fmt.Sprintf("Pump number %d. Sturdy. | %d | %d.5", i, 100+i, i),
			Head: head})
	}
	add(extract.Block{Text: "What stands behind the table has no header."})
	chunks := split(d, tk)
	holds(t, tk, chunks)
	if len(chunks) < 10 {
		t.Fatalf("%d chunks", len(chunks))
	}
	seen := map[string]bool{}
	for i, c := range chunks {
		if !strings.HasPrefix(c.Content, head+"\n") || strings.Count(c.Content, head) != 1 {
			t.Errorf("chunk %d begins %.60q", i, c.Content)
		}
		for _, line := range strings.Split(c.Content, "\n")[1:] {
			if strings.HasPrefix(line, "Pump number") && strings.Count(line, "|") != 2 {
				t.Errorf("chunk %d cuts a row: %q", i, line)
			}
			seen[line] = true
		}
	}
	if len(seen) < 301 {
		t.Errorf("%d lines of 301 are there", len(seen))
	}
	// A header that takes more than a quarter of a chunk is not repeated.
	long := strings.Repeat("a long header ", 60)
	d.Blocks = d.Blocks[:1]
	at = 0
	add(extract.Block{Kind: extract.Row, Text: long})
	for i := range 100 {
		add(extract.Block{Kind: extract.Row, Text: fmt.Sprintf("Pump number %d | %d", i, i), Head: long})
	}
	chunks = split(d, tk)
	holds(t, tk, chunks)
	if last := chunks[len(chunks)-1]; strings.Contains(last.Content, "header") {
		t.Errorf("%q", last.Content)
	}
}

func TestAProgramStaysWholeWhereItFits(t *testing.T) {
	tk := tokenizer(t)
	words := strings.Repeat("Some words before it. ", 35)
	code := strings.TrimSuffix(strings.Repeat("pump.valve.close()\n", 15), "\n")
	d := &extract.Document{Blocks: []extract.Block{{Text: words, End: len(words)},
		{Kind: extract.Code, Text: code, Start: len(words), End: len(words) + len(code)}}}
	chunks := split(d, tk)
	holds(t, tk, chunks)
	if len(chunks) < 2 || !strings.HasSuffix(chunks[len(chunks)-1].Content, code) {
		t.Errorf("%d chunks, the last is %q", len(chunks), chunks[len(chunks)-1].Content)
	}
}
