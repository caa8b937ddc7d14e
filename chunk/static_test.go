package chunk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
)

func splitStatic(d *extract.Document, tk *embed.Tokenizer, o chunk.Options) (chunks []chunk.Chunk) {
	chunk.SplitWith(d, tk, o, func(c chunk.Chunk) bool { chunks = append(chunks, c); return true })
	return chunks
}

// letters are a text's characters that are no white space: what no cut may lose, add or put in another order.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

// holdsStatic checks windows: that they cover the document in order, overlap by as much as was asked at most, are no
// larger than was asked, and that their pieces cover them and fit into the model's input.
func holdsStatic(t *testing.T, tk *embed.Tokenizer, d *extract.Document, chunks []chunk.Chunk, o chunk.Options) {
	t.Helper()
	var all strings.Builder
	for _, b := range d.Blocks {
		all.WriteString(letters(b.Text))
	}
	rest, before := all.String(), ""
	for i, c := range chunks {
		if n := len(tk.Encode(c.Content)); n > o.MaxTokens {
			t.Errorf("window %d has %d tokens", i, n)
		}
		if !utf8.ValidString(c.Content) || c.Content != strings.TrimRight(c.Content, " \n") {
			t.Errorf("window %d: %.80q", i, c.Content)
		}
		if c.Start >= c.End || c.End > len(d.Text) ||
			i > 0 && (c.End < chunks[i-1].End || c.Start < chunks[i-1].Start) {
			t.Errorf("window %d covers %d-%d of %d", i, c.Start, c.End, len(d.Text))
		}
		// What it repeats of the window before is the longest beginning of it that the rest does not begin with.
		text := letters(c.Content)
		repeated := overlap(before, text, rest)
		if repeated < 0 {
			t.Fatalf("window %d is not what follows: %.80q, want %.80q", i, text, rest)
		}
		if n := len(tk.Encode(spaced(c.Content, repeated))); n > o.Overlap {
			t.Errorf("window %d repeats %d tokens", i, n)
		}
		before, rest = text, rest[len(text)-repeated:]
		inputs := c.Inputs()
		for j, in := range inputs {
			if n := len(tk.Encode(in)) + 2; n > chunk.MaxTokens {
				t.Errorf("piece %d of window %d has %d tokens", j, i, n)
			}
		}
		if inputs[0] != c.Embed || (len(c.Pieces) == 0) != (len(inputs) == 1) {
			t.Errorf("window %d: %d pieces, %d inputs", i, len(c.Pieces), len(inputs))
		}
		at := 0
		for j, p := range c.Pieces {
			if p.Start < at || letters(c.Content[at:p.Start]) != "" || p.End <= p.Start {
				t.Errorf("piece %d of window %d: %d-%d after %d", j, i, p.Start, p.End, at)
			}
			at = p.End
		}
		if len(c.Pieces) > 0 && at != len(c.Content) {
			t.Errorf("the pieces of window %d end at %d of %d", i, at, len(c.Content))
		}
	}
	if rest != "" {
		t.Errorf("no window has %.80q", rest)
	}
}

// overlap is how many bytes of text repeat the end of before, so that rest goes on where they end; -1 where it does
// not.
func overlap(before, text, rest string) int {
	for n := 0; n <= min(len(before), len(text)); n++ {
		if strings.HasSuffix(before, text[:n]) && strings.HasPrefix(rest, text[n:]) && len(text) > n {
			return n
		}
	}
	return -1
}

// spaced is the beginning of a text that has n bytes without white space.
func spaced(text string, n int) string {
	for i, r := range text {
		if n <= 0 {
			return text[:i]
		}
		if !unicode.IsSpace(r) {
			n -= utf8.RuneLen(r)
		}
	}
	return text
}

var strategies = []chunk.Options{{MaxTokens: 800, Overlap: 400}, {MaxTokens: 4096, Overlap: 2048}, {MaxTokens: 100},
	{MaxTokens: 101, Overlap: 50}, {MaxTokens: 300, Overlap: 7}}

func TestWindowsCoverRealDocuments(t *testing.T) {
	tk := tokenizer(t)
	files, err := filepath.Glob("../internal/samples/files/*")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var x extract.Extractor
	defer x.Close()
	for _, f := range append(files, "../docs/search.md", "../docs/cli.md") {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		kind, err := extract.Type(f, raw[:min(len(raw), 4096)])
		if err != nil {
			t.Fatal(err)
		}
		d, err := x.Extract(t.Context(), kind, raw)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, o := range strategies {
			t.Run(fmt.Sprintf("%s %d %d", filepath.Base(f), o.MaxTokens, o.Overlap), func(t *testing.T) {
				holdsStatic(t, tk, d, splitStatic(d, tk, o), o)
			})
		}
	}
}

func TestWindowsCoverTextsWithoutWords(t *testing.T) {
	tk := tokenizer(t)
	var numbered strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&numbered, "%06dfox", i)
	}
	for name, text := range map[string]string{
		"no space":        numbered.String(),
		"one letter":      strings.Repeat("x", 100_000),
		"Chinese":         strings.Repeat("泵可以在三十天内退货。请每周用温水冲洗转子，", 500),
		"Chinese, whole":  strings.Repeat("泵可以在三十天内退货请每周用温水冲洗转子", 500),
		"Japanese":        strings.Repeat("ポンプは三十日以内に返品できます。", 500),
		"Thai":            strings.Repeat("ปั๊มสามารถคืนได้ภายในสามสิบวัน", 300),
		"emoji":           strings.Repeat("👩‍👩‍👧‍👦🏳️‍🌈😀", 2000),
		"emoji, words":    strings.Repeat("A pump 😀 hums 👩‍🔬 along. ", 800),
		"marks":           "a" + strings.Repeat("\u0301", 20_000),
		"nothing to read": strings.Repeat("\u200b", 20_000) + " a word",
		"punctuation":     strings.Repeat("-+*/", 5_000),
	} {
		var x extract.Extractor
		d, err := x.Extract(t.Context(), extract.TypeText, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, o := range strategies {
			t.Run(fmt.Sprintf("%s %d %d", name, o.MaxTokens, o.Overlap), func(t *testing.T) {
				chunks := splitStatic(d, tk, o)
				var all strings.Builder
				for _, c := range chunks {
					if len(c.Content) > 50*4096 {
						t.Errorf("a window of %d bytes", len(c.Content))
					}
					if n := len(tk.Encode(c.Content)); n > o.MaxTokens {
						t.Errorf("a window of %d tokens", n)
					}
					for _, in := range c.Inputs() {
						if n := len(tk.Encode(in)) + 2; n > chunk.MaxTokens {
							t.Errorf("a piece of %d tokens", n)
						}
					}
					all.WriteString(c.Content)
				}
				if o.Overlap == 0 && letters(all.String()) != letters(text) {
					t.Errorf("the windows are not the text: %.80q", all.String())
				}
				if name == "no space" {
					holdsStatic(t, tk, d, chunks, o)
				}
				if name == "Chinese" && strings.Contains(all.String(), " ") {
					t.Error("white space came between the characters")
				}
			})
		}
	}
}

func TestWindowsCoverALargeText(t *testing.T) {
	tk := tokenizer(t)
	var b strings.Builder
	for i := 0; b.Len() < 2<<20; i++ {
		fmt.Fprintf(&b, "Sentence number %d speaks of prisms and lenses. ", i)
		if i%17 == 0 {
			b.WriteString("\n\n")
		}
	}
	var x extract.Extractor
	d, err := x.Extract(t.Context(), extract.TypeText, []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range strategies[:3] {
		chunks := splitStatic(d, tk, o)
		least, whole := o.MaxTokens, 0
		for i, c := range chunks {
			if n := len(tk.Encode(c.Content)); i+1 < len(chunks) {
				least = min(least, n)
				whole += n
			}
			if !strings.HasPrefix(c.Content, "Sentence") && o.Overlap == 0 || !strings.HasSuffix(c.Content, "lenses.") {
				t.Fatalf("window %d is not whole sentences: %.80q", i, c.Content)
			}
		}
		if whole/(len(chunks)-1) < o.MaxTokens*9/10 || least < o.MaxTokens*4/5 {
			t.Errorf("%+v: %d windows of %d tokens at least, want full ones", o, len(chunks), least)
		}
		all, covered := letters(b.String()), 0
		for i, c := range chunks {
			text := letters(c.Content)
			at := strings.Index(all[max(0, covered-len(text)):], text)
			if at < 0 {
				t.Fatalf("window %d is not in the text", i)
			}
			if at += max(0, covered-len(text)); at > covered {
				t.Fatalf("window %d begins at %d, the one before ends at %d", i, at, covered)
			}
			covered = at + len(text)
		}
		if covered != len(all) {
			t.Errorf("%+v: %d of %d bytes are covered", o, covered, len(all))
		}
	}
}

func TestAWindowHasItsPlace(t *testing.T) {
	tk := tokenizer(t)
	var steps strings.Builder
	for i := range 130 {
		fmt.Fprintf(&steps, "Run %d. Then wait. ", i)
	}
	raw := "# Guide\n\nIntro.\n\n## Install\n\n" + steps.String() +
		"\n\n## Use\n\n```\nif a:\n\n    b = 2\n```\n\nLast words.\n"
	var x extract.Extractor
	d, err := x.Extract(t.Context(), extract.TypeMarkdown, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	o := chunk.Options{MaxTokens: 200, Overlap: 20}
	chunks := splitStatic(d, tk, o)
	holdsStatic(t, tk, d, chunks, o)
	if len(chunks) < 3 || !strings.HasPrefix(chunks[0].Content, "Guide\n\nIntro.\n\nInstall\n\nRun 0. Then wait.") {
		t.Fatalf("%+v", chunks)
	}
	if diff := cmp.Diff([]string{"Guide"}, chunks[0].Headings); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"Guide", "Install"}, chunks[1].Headings); diff != "" {
		t.Error(diff)
	}
	last := chunks[len(chunks)-1]
	if !strings.HasSuffix(last.Content, "\n\nUse\nif a:\n\n    b = 2\n\nLast words.") {
		t.Errorf("%q", last.Content)
	}
	for i, c := range chunks[:len(chunks)-1] {
		if got := strings.Join(strings.Fields(raw[c.Start:c.End]), " "); i > 0 && got != c.Content {
			t.Errorf("window %d covers %.60q and says %.60q", i, got, c.Content)
		}
	}
}

// TestAPieceKnowsItsHeadings: the model reads each piece of a large window below its own heading path.
func TestAPieceKnowsItsHeadings(t *testing.T) {
	tk := tokenizer(t)
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "## Part %d\n\n%s\n\n", i, strings.Repeat("Some words about it. ", 30))
	}
	var x extract.Extractor
	d, err := x.Extract(t.Context(), extract.TypeMarkdown, []byte("# Guide\n\n"+b.String()))
	if err != nil {
		t.Fatal(err)
	}
	chunks := splitStatic(d, tk, chunk.Options{MaxTokens: 4096})
	if len(chunks) != 1 || len(chunks[0].Pieces) != 20 {
		t.Fatalf("%d windows, %d pieces", len(chunks), len(chunks[0].Pieces))
	}
	for i, in := range chunks[0].Inputs()[1:] {
		if want := fmt.Sprintf("Guide > Part %d\nPart %d\n\nSome words", i+1, i+1); !strings.HasPrefix(in, want) {
			t.Errorf("piece %d begins %.60q, want %q", i+1, in, want)
		}
	}
	if c := &chunks[0]; c.Whole() != c.Pieces[0].Path+c.Content {
		t.Errorf("%.80q", c.Whole())
	}
}

func TestOptionsHaveLimits(t *testing.T) {
	for o, want := range map[chunk.Options]string{
		{}:                                  "",
		{MaxTokens: 100}:                    "",
		{MaxTokens: 4096, Overlap: 2048}:    "",
		{MaxTokens: 101, Overlap: 50}:       "",
		{MaxTokens: 99}:                     "max_tokens: 99, it is 100 to 4096",
		{MaxTokens: 4097}:                   "max_tokens: 4097, it is 100 to 4096",
		{MaxTokens: -1}:                     "max_tokens: -1, it is 100 to 4096",
		{MaxTokens: 101, Overlap: 51}:       "overlap_tokens: 51, it is 0 to 50, half of max_tokens",
		{MaxTokens: 200, Overlap: -1}:       "overlap_tokens: -1, it is 0 to 100, half of max_tokens",
		{Overlap: 10}:                       "overlap_tokens: 10 without max_tokens: set both, or neither",
		{MaxTokens: 4096, Overlap: 1 << 62}: "overlap_tokens: 4611686018427387904, it is 0 to 2048, half of max_tokens",
	} {
		got := ""
		if err := o.Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
}

func FuzzWindows(f *testing.F) {
	tk := tokenizer(f)
	f.Add("# A\n\nb. c? d!\n\n- e", uint16(100), uint16(50))
	f.Add(strings.Repeat("ﬁ½ é\u0301", 300), uint16(300), uint16(20))
	f.Add(strings.Repeat("antidisestablishmentarianism", 90), uint16(128), uint16(64))
	var x extract.Extractor
	f.Fuzz(func(t *testing.T, raw string, most, repeat uint16) {
		o := chunk.Options{MaxTokens: int(most), Overlap: int(repeat)}
		d, err := x.Extract(t.Context(), extract.TypeMarkdown, []byte(raw))
		if o.Check() != nil || o.MaxTokens == 0 || err != nil {
			return
		}
		for i, c := range splitStatic(d, tk, o) {
			if n := len(tk.Encode(c.Content)); n > o.MaxTokens {
				t.Errorf("window %d has %d tokens", i, n)
			}
			for _, in := range c.Inputs() {
				if n := len(tk.Encode(in)) + 2; n > chunk.MaxTokens {
					t.Errorf("a piece of window %d has %d tokens", i, n)
				}
			}
		}
	})
}
