// Package chunk splits a document into chunks that fit into an embedding model's input: at headings, then between
// sentences, lines of code or rows, and within one of these only if it is too long by itself. It must not know files,
// models or databases.
package chunk

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
)

// Sizes of a chunk, in tokens of the model.
const (
	// MaxTokens is the size of the model's input, including the two special tokens around it.
	MaxTokens = embed.MaxTokens
	// Overlap is the largest part of a chunk's end that the next chunk of the same section may repeat.
	Overlap = 32
	// maxHeading is the largest part of MaxTokens for the heading path; a longer path is truncated at its front.
	maxHeading = 64
	// longHeading is the maximum length of a heading in bytes; longer ones are truncated.
	longHeading = 500
)

// Chunk is a part of a document.
type Chunk struct {
	// Content is the text that is stored and returned.
	Content string
	// Headings is the path of headings above it, starting with the document's title.
	Headings []string
	// Start and End are its byte range in the document, as in extract.Block.
	Start, End int
	// Page is the page on which it begins, from 1; 0 if the document has no pages.
	Page int
	// Tokens is the size of Embed with the two special tokens.
	Tokens int
	// Embed is the model's input: the heading path, then the content, or its first piece.
	Embed string
	// Pieces are what the model reads of a chunk that is larger than its input, in order; nil where it reads it whole.
	Pieces []Piece
}

// Split calls yield for each chunk of d in order, until yield returns false. It holds one chunk in memory at a time.
func Split(d *extract.Document, t *embed.Tokenizer, yield func(Chunk) bool) {
	s := splitter{t: t, emitChunk: yield}
	if d.Title != "" {
		s.path = []heading{{0, namedHeadings(d.Title)}}
	}
	s.enter()
	for i, b := range d.Blocks {
		if b.Kind == extract.Heading {
			s.emit()
			s.under(b)
			continue
		}
		s.explain(d.Blocks[i:])
		s.block(b)
		if s.stopped {
			return
		}
	}
	s.emit()
}

// unit is a piece of text that is split only if it is too long: a sentence, a line of code, a row.
type unit struct {
	text       string
	start, end int
	tokens     int
	page       int
	glue       string // what stands between it and the one before
	head       string // the first row of the table that it is a row of
}

type heading struct {
	level int
	text  string
}

type splitter struct {
	t         *embed.Tokenizer
	emitChunk func(Chunk) bool
	stopped   bool

	path   []heading
	term   string // that the last block explained
	prefix string // the heading path as the model reads it
	budget int    // tokens left for content
	units  []unit
	tokens int
	fresh  bool // units holds something that no chunk has yet
}

// longTerm is the length in bytes from which the explanation of a term becomes a section of its own; shorter ones share
// a chunk with their neighbours.
const longTerm = 400

// termLevel is a heading level below all others.
const termLevel = 7

// explain turns a term with a long explanation into a heading, and closes that heading after the term's last block.
func (s *splitter) explain(blocks []extract.Block) {
	if s.term == blocks[0].Term {
		return
	}
	s.term = blocks[0].Term
	size := 0
	for _, b := range blocks {
		if b.Kind == extract.Heading || b.Term != s.term {
			break
		}
		size += len(b.Text)
	}
	under := len(s.path) > 0 && s.path[len(s.path)-1].level == termLevel
	long := s.term != "" && size-len(s.term) >= longTerm
	if !under && !long {
		return
	}
	s.emit()
	if under {
		s.path = s.path[:len(s.path)-1]
	}
	if long {
		s.path = append(s.path, heading{termLevel, namedHeadings(s.term)})
	}
	s.enter()
}

// under begins a heading's section.
func (s *splitter) under(b extract.Block) {
	s.nest(b)
	s.enter()
}

// nest replaces the headings at and below the block's level.
func (s *splitter) nest(b extract.Block) {
	for len(s.path) > 0 && s.path[len(s.path)-1].level >= b.Level {
		s.path = s.path[:len(s.path)-1]
	}
	text := namedHeadings(b.Text)
	// The first heading often repeats the title; it is kept once.
	if len(s.path) == 1 && s.path[0].level == 0 && s.path[0].text == text {
		s.path = s.path[:0]
	}
	s.path = append(s.path, heading{b.Level, text})
}

// namedHeadings returns a heading as the chunks below it repeat it: on one line, truncated to longHeading.
func namedHeadings(text string) string {
	text = squeeze(text)
	if len(text) > longHeading {
		text = strings.ToValidUTF8(text[:longHeading], "")
	}
	return text
}

func (s *splitter) enter() {
	s.units, s.tokens, s.fresh = nil, 0, false
	var n int
	s.prefix, n = prefix(s.t, s.headings())
	s.budget = MaxTokens - 2 - n
}

// prefix returns the heading path as the model reads it, and its size in tokens.
func prefix(t *embed.Tokenizer, headings []string) (string, int) {
	for ; len(headings) > 0; headings = headings[1:] {
		p := strings.Join(headings, " > ") + "\n"
		if n := len(t.Encode(p)); n <= maxHeading {
			return p, n
		}
	}
	return "", 0
}

// Embed rebuilds Chunk.Embed from a stored chunk.
func Embed(t *embed.Tokenizer, headings []string, content string) string {
	p, _ := prefix(t, headings)
	return p + content
}

func (s *splitter) headings() []string {
	names := make([]string, len(s.path))
	for i, h := range s.path {
		names[i] = h.text
	}
	return names
}

// squeeze replaces each run of white space by one space.
func squeeze(text string) string { return strings.Join(strings.Fields(text), " ") }

func (s *splitter) count(text string) int { return len(s.t.Encode(text)) }

// block splits a block into units and packs them.
func (s *splitter) block(b extract.Block) {
	glue := "\n"
	if b.Kind == extract.Paragraph {
		glue = "\n\n"
	}
	if b.Kind == extract.Code || b.Kind == extract.Row { // whole, where it fits
		whole := unit{text: squeeze(b.Text), page: b.Page, glue: glue, head: b.Head}
		if b.Kind == extract.Code {
			whole.text = strings.TrimRight(b.Text, "\n")
		}
		whole.start, whole.end = b.Place(0, len(b.Text))
		if whole.tokens = s.count(whole.text); whole.tokens <= s.budget {
			if strings.TrimSpace(whole.text) != "" {
				s.add(whole)
			}
			return
		}
	}
	at := 0
	for text := range units(b) {
		u := unit{text: text, page: b.Page, glue: glue, head: b.Head}
		u.start, u.end = b.Place(at, at+len(text))
		at += len(text)
		glue = ""
		if b.Kind == extract.Code {
			u.text = strings.TrimRight(text, "\n")
			glue = "\n"
		} else {
			u.text = squeeze(text)
			glue = " "
		}
		if strings.TrimSpace(u.text) == "" {
			continue
		}
		s.fit(u)
		if s.stopped {
			return
		}
	}
}

// units yields a block's text in pieces whose concatenation is the text.
func units(b extract.Block) func(func(string) bool) {
	if b.Kind == extract.Code {
		return strings.Lines(b.Text)
	}
	return func(yield func(string) bool) {
		from := 0
		for at, state, sentence := 0, -1, ""; at < len(b.Text); {
			sentence, _, state = uniseg.FirstSentenceInString(b.Text[at:], state)
			at += len(sentence)
			// Unicode's rules also end a sentence inside "x509.Certificate". Here a sentence ends at white space, or
			// anywhere in scripts without white space.
			r, _ := utf8.DecodeLastRuneInString(sentence)
			if at < len(b.Text) && !unicode.IsSpace(r) &&
				(r <= unicode.MaxASCII || !unicode.Is(unicode.Sentence_Terminal, r)) {
				continue
			}
			if !yield(b.Text[from:at]) {
				return
			}
			from = at
		}
	}
}

// fit splits a unit that is longer than a chunk, between words if possible.
func (s *splitter) fit(u unit) {
	tokens := s.t.Encode(u.text)
	u.tokens = len(tokens)
	if len(tokens) <= s.budget {
		s.add(u)
		return
	}
	for from := 0; len(tokens) > 0 && !s.stopped; {
		n, to := s.cut(tokens, from, len(u.text))
		piece := unit{text: strings.TrimSpace(u.text[from:to]), page: u.page, glue: u.glue, head: u.head}
		// The parts of a split word can have other tokens than the word.
		for piece.tokens = s.count(piece.text); piece.tokens > s.budget && n > 1; piece.tokens = s.count(piece.text) {
			n, to = s.cut(tokens[:n*3/4+1], from, tokens[n*3/4].End)
			piece.text = strings.TrimSpace(u.text[from:to])
		}
		length := len(u.text)
		piece.start, piece.end = u.start+from*(u.end-u.start)/length, u.start+to*(u.end-u.start)/length
		s.add(piece)
		from, u.glue = to, " "
		for len(tokens) > 0 && tokens[0].Start < to {
			tokens = tokens[1:]
		}
	}
}

// cut returns how many of the tokens make up a piece that begins at byte from, and where the piece ends.
func (s *splitter) cut(tokens []embed.Token, from, end int) (n, to int) {
	n = min(len(tokens), s.budget)
	if n == len(tokens) {
		return n, end
	}
	for cut := n; cut > n/2; cut-- {
		if tokens[cut].Start > tokens[cut-1].End { // white space between
			return cut, tokens[cut].Start
		}
	}
	for n < len(tokens) && tokens[n].Start <= from { // several tokens of one character stay together
		n++
	}
	if n == len(tokens) {
		return n, end
	}
	return n, tokens[n].Start
}

// add appends a unit to the current chunk, and begins a new chunk if it is full.
func (s *splitter) add(u unit) {
	if s.tokens+u.tokens > s.budget {
		s.emit()
		s.overlap(s.budget - u.tokens)
		s.repeat(u)
	}
	s.units, s.tokens, s.fresh = append(s.units, u), s.tokens+u.tokens, true
}

// overlap keeps the last units that fit into Overlap and room.
func (s *splitter) overlap(room int) {
	keep, tokens := len(s.units), 0
	for keep > 0 && tokens+s.units[keep-1].tokens <= min(Overlap, room) {
		keep--
		tokens += s.units[keep].tokens
	}
	s.units, s.tokens = slices.Clone(s.units[keep:]), tokens
}

// repeat inserts a table's first row before a chunk that begins inside the table, if there is room: without column
// names the cells mean little.
func (s *splitter) repeat(u unit) {
	if u.head == "" {
		return
	}
	head := unit{text: squeeze(u.head), page: u.page, glue: "\n", start: u.start, end: u.start}
	if head.tokens = s.count(head.text); head.tokens > s.budget/4 || head.tokens+u.tokens > s.budget {
		return
	}
	s.overlap(s.budget - u.tokens - head.tokens)
	if len(s.units) > 0 {
		if s.units[0].text == head.text {
			return
		}
		head.start, head.end, head.page = s.units[0].start, s.units[0].start, s.units[0].page
	}
	s.units, s.tokens = append([]unit{head}, s.units...), s.tokens+head.tokens
}

// emit yields the current chunk if it contains anything new.
func (s *splitter) emit() {
	if !s.fresh || s.stopped {
		return
	}
	var b strings.Builder
	for i, u := range s.units {
		if i > 0 {
			b.WriteString(u.glue)
		}
		b.WriteString(u.text)
	}
	first, last := s.units[0], s.units[len(s.units)-1]
	c := Chunk{Content: b.String(), Headings: s.headings(), Start: first.start, End: last.end, Page: first.page,
		Tokens: MaxTokens - s.budget + s.tokens, Embed: s.prefix + b.String()}
	s.fresh = false
	s.stopped = !s.emitChunk(c)
}
