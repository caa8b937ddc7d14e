package chunk

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
)

const (
	// unitTokens is the largest unit of a window: with the longest heading path it fits into the model's input.
	unitTokens = MaxTokens - 2 - maxHeading
	// tokenBytes is how many bytes count as a token at most: a word of any length is one [UNK] to the model.
	tokenBytes = 50
)

// section is what stands under one heading.
type section struct {
	headings []string
	path     string // as the model reads it
	tokens   int    // of path
}

// part is a unit of a window.
type part struct {
	unit
	in      *section
	heading bool
}

// windows packs parts into windows.
type windows struct {
	splitter
	options Options
	at      *section
	parts   []part
	total   int // tokens of parts
	carried int // parts at the front that the window before had
}

func splitStatic(d *extract.Document, t *embed.Tokenizer, o Options, yield func(Chunk) bool) {
	w := &windows{splitter: splitter{t: t, emitChunk: yield, budget: min(unitTokens, o.MaxTokens)}, options: o}
	if d.Title != "" {
		w.path = []heading{{0, namedHeadings(d.Title)}}
	}
	w.enterSection()
	for _, b := range d.Blocks {
		if b.Kind == extract.Heading {
			w.nest(b)
			w.enterSection()
		}
		if w.block(b); w.stopped {
			return
		}
	}
	if len(w.parts) > w.carried {
		w.emit(len(w.parts))
	}
}

func (w *windows) enterSection() {
	s := &section{headings: w.headings()}
	s.path, s.tokens = prefix(w.t, s.headings)
	w.at = s
}

// block cuts a block into parts no larger than the model's input: sentences, lines, rows.
func (w *windows) block(b extract.Block) {
	glue := "\n"
	if b.Kind == extract.Paragraph || b.Kind == extract.Heading {
		glue = "\n\n"
	}
	at := 0
	for text := range units(b) {
		u := unit{text: squeeze(text), page: b.Page, glue: glue}
		if b.Kind == extract.Code {
			u.text = strings.TrimRight(text, "\n")
		}
		u.start, u.end = b.Place(at, at+len(text))
		at += len(text)
		switch last, _ := utf8.DecodeLastRuneInString(text); {
		case b.Kind == extract.Code:
			glue = "\n"
		case unicode.IsSpace(last):
			glue = " "
		default: // scripts without white space
			glue = ""
		}
		if strings.TrimSpace(u.text) == "" { // an empty line of a program stays
			glue = u.glue + strings.Repeat("\n", min(1, len(glue)))
			continue
		}
		if w.fit(part{u, w.at, b.Kind == extract.Heading}); w.stopped {
			return
		}
	}
}

// fit adds a part, in several where it is too long: between words if possible.
func (w *windows) fit(p part) {
	tokens := w.encode(p.text)
	if p.tokens = len(tokens); p.tokens <= w.budget {
		w.add(p)
		return
	}
	for from := 0; from < len(p.text) && !w.stopped; {
		n, to := w.cut(tokens, from, len(p.text))
		q := p.between(from, to)
		// The parts of a split word can have other tokens than the word.
		for q.tokens = w.count(q.text); q.tokens > w.budget && n > 1; q.tokens = w.count(q.text) {
			n /= 2
			to = tokens[n-1].End
			q = p.between(from, to)
		}
		if q.text != "" {
			w.add(q)
			p.glue = ""
		}
		if rest := p.text[to:]; rest != strings.TrimLeftFunc(rest, unicode.IsSpace) ||
			to > from && endsInSpace(p.text[:to]) {
			p.glue = " "
		}
		from = to
		for len(tokens) > 0 && tokens[0].Start < to {
			tokens = tokens[1:]
		}
	}
}

func endsInSpace(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return unicode.IsSpace(r)
}

// between is bytes [from, to) of a part, without white space around them. Its place is in proportion where white space
// was squeezed, else exact.
func (p part) between(from, to int) part {
	text := p.text[from:to]
	from += len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
	length, source := len(p.text), p.end-p.start
	q := p
	q.text = strings.TrimSpace(text)
	if from > 0 {
		q.start = p.start + from*source/length
	}
	if to < length {
		q.end = p.start + to*source/length
	}
	return q
}

// encode returns the text's tokens; each has tokenBytes at most.
func (w *windows) encode(text string) (tokens []embed.Token) {
	add := func(from, to int) {
		for to-from > tokenBytes {
			cut := from + tokenBytes
			for !utf8.RuneStart(text[cut]) {
				cut--
			}
			tokens = append(tokens, embed.Token{Start: from, End: cut})
			from = cut
		}
		tokens = append(tokens, embed.Token{Start: from, End: to})
	}
	at := 0
	for _, t := range w.t.Encode(text) {
		if t.Start-at > tokenBytes && strings.TrimSpace(text[at:t.Start]) != "" { // what the model does not read
			add(at, t.Start)
		}
		add(t.Start, t.End)
		at = max(at, t.End)
	}
	if strings.TrimSpace(text[at:]) != "" {
		add(at, len(text))
	}
	return tokens
}

func (w *windows) count(text string) int { return len(w.encode(text)) }

// add appends a part, and emits the window that it does not fit into.
func (w *windows) add(p part) {
	w.parts, w.total = append(w.parts, p), w.total+p.tokens
	for w.total > w.options.MaxTokens && !w.stopped {
		w.emit(len(w.parts) - 1)
	}
}

// emit yields the first n parts as a window, or fewer where they are larger together than each by itself, and keeps
// those that the next window begins with.
func (w *windows) emit(n int) {
	for n > 1 && w.measure(w.parts[:n]) > w.options.MaxTokens {
		if n-1 > w.carried {
			n--
			continue
		}
		w.parts, w.carried, n = w.parts[1:], w.carried-1, n-1
	}
	w.yield(w.parts[:n])
	room := w.options.Overlap
	if n < len(w.parts) {
		room = min(room, w.options.MaxTokens-w.parts[n].tokens)
	}
	kept := w.tail(w.parts[:n], room)
	w.parts = append(kept, w.parts[n:]...)
	w.carried, w.total = len(kept), 0
	for _, p := range w.parts {
		w.total += p.tokens
	}
}

// tail returns what a window's end repeats in the next one: as many parts as there is room for, and of the part before
// them its last words where more than half of the room is left.
func (w *windows) tail(parts []part, room int) (kept []part) {
	from, tokens := len(parts), 0
	for from > 1 && tokens+parts[from-1].tokens <= room {
		from--
		tokens += parts[from].tokens
	}
	for from < len(parts) && w.measure(parts[from:]) > room {
		tokens -= parts[from].tokens
		from++
	}
	if left := room - tokens; left > room/2 && from > 0 {
		if p := parts[from-1]; p.tokens > left {
			if q, ok := w.lastWords(p, left); ok {
				kept = append(kept, q)
			}
		}
	}
	kept = append(kept, parts[from:]...)
	if w.measure(kept) > room {
		kept = kept[1:]
	}
	return kept
}

// lastWords is the end of a part, from the beginning of a word on, of so many tokens at most.
func (w *windows) lastWords(p part, most int) (q part, ok bool) {
	tokens := w.encode(p.text)
	for i := max(1, len(tokens)-most); i < len(tokens); i++ {
		apart := tokens[i].Start > tokens[i-1].End || p.glue == "" && tokens[i].Start >= tokens[i-1].End
		if !apart {
			continue
		}
		q = p.between(tokens[i].Start, len(p.text))
		if q.tokens = w.count(q.text); q.tokens <= most {
			return q, true
		}
	}
	return q, false
}

// measure counts the tokens of parts together: their sum, unless a word was split.
func (w *windows) measure(parts []part) (tokens int) {
	split := false
	for i, p := range parts {
		tokens += p.tokens
		split = split || i > 0 && p.glue == ""
	}
	if split {
		text, _ := join(parts)
		return w.count(text)
	}
	return tokens
}

// join is the parts' text, and where in it each begins.
func join(parts []part) (string, []int) {
	var b strings.Builder
	starts := make([]int, len(parts))
	for i, p := range parts {
		if i > 0 {
			b.WriteString(p.glue)
		}
		starts[i] = b.Len()
		b.WriteString(p.text)
	}
	return b.String(), starts
}

// yield makes a chunk of parts.
func (w *windows) yield(parts []part) {
	content, starts := join(parts)
	first, last := parts[0], parts[len(parts)-1]
	c := Chunk{Content: content, Headings: first.in.headings, Start: first.start, End: last.end, Page: first.page}
	for from := 0; from < len(parts); {
		to := w.piece(parts[from:]) + from
		p := Piece{Path: parts[from].in.path, Start: starts[from], End: starts[to-1] + len(parts[to-1].text)}
		if from == 0 {
			c.Embed = p.Path + content[:p.End]
			c.Tokens = 2 + first.in.tokens + w.measure(parts[:to])
		}
		c.Pieces = append(c.Pieces, p)
		from = to
	}
	if len(c.Pieces) == 1 {
		c.Pieces = nil
	}
	w.stopped = !w.emitChunk(c)
}

// piece is how many of the parts the model reads at once. A heading begins a piece, unless the piece before it would
// have less than half of what the model reads.
func (w *windows) piece(parts []part) int {
	budget, tokens := MaxTokens-2-parts[0].in.tokens, 0
	for i, p := range parts {
		if i > 0 && (tokens+p.tokens > budget || p.heading && tokens > budget/2) {
			for ; i > 1 && w.measure(parts[:i]) > budget; i-- {
			}
			return i
		}
		tokens += p.tokens
	}
	n := len(parts)
	for ; n > 1 && w.measure(parts[:n]) > budget; n-- {
	}
	return n
}
