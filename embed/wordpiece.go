package embed

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Token is a piece of a text: its id in the model's vocabulary and its position in the text.
type Token struct {
	ID         int32
	Start, End int // byte offsets
}

// Tokenizer is BERT's uncased WordPiece: clean, split, strip accents, convert to lower case, and match the longest
// known piece first. It is safe for concurrent use. docs/parts.md says why no library is used.
type Tokenizer struct {
	vocab            map[string]int32
	pad, unk         int32
	classify, endSeq int32 // [CLS] and [SEP], which stand around every input
	special          []string
	longest          int // bytes of the longest piece
}

// maxWord is the maximum number of characters of a word; longer words become [UNK], as in the reference implementation.
const maxWord = 100

// LoadTokenizer reads the vocabulary of a Hugging Face tokenizer.json of type WordPiece.
func LoadTokenizer(path string) (*Tokenizer, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the tokenizer: %w", err)
	}
	var file struct {
		Model struct {
			Vocab map[string]int32 `json:"vocab"`
		} `json:"model"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("read the tokenizer %s: %w", path, err)
	}
	t := &Tokenizer{vocab: file.Model.Vocab}
	for _, s := range []struct {
		name string
		id   *int32
	}{{"[PAD]", &t.pad}, {"[UNK]", &t.unk}, {"[CLS]", &t.classify}, {"[SEP]", &t.endSeq}, {"[MASK]", new(int32)}} {
		id, ok := t.vocab[s.name]
		if !ok {
			return nil, fmt.Errorf("read the tokenizer %s: its vocabulary has no %s", path, s.name)
		}
		*s.id = id
		t.special = append(t.special, s.name)
	}
	for piece := range t.vocab {
		t.longest = max(t.longest, len(strings.TrimPrefix(piece, "##")))
	}
	return t, nil
}

// Encode returns the text's tokens in order, without the two special tokens around every input.
func (t *Tokenizer) Encode(text string) []Token {
	var e encoder
	e.t = t
	e.tokens = make([]Token, 0, len(text)/4+1)
	for base := 0; base < len(text); {
		at, name := t.nextSpecial(text[base:])
		if name == "" {
			e.encode(text[base:], base)
			break
		}
		e.encode(text[base:base+at], base)
		e.tokens = append(e.tokens, Token{t.vocab[name], base + at, base + at + len(name)})
		base += at + len(name)
	}
	return e.tokens
}

// nextSpecial finds the first special token that is spelled out in s; the reference implementation treats it as that
// token.
func (t *Tokenizer) nextSpecial(s string) (at int, name string) {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], '[')
		if i < 0 {
			return 0, ""
		}
		for _, name := range t.special {
			if strings.HasPrefix(s[from+i:], name) {
				return from + i, name
			}
		}
		from += i + 1
	}
}

// encoder collects one word at a time: its normalized bytes, and the byte of the text that each came from.
type encoder struct {
	t      *Tokenizer
	word   []byte
	from   []int // start in the text of the character that gave byte i of word
	to     []int // its end
	runes  int
	tokens []Token
}

func (e *encoder) encode(text string, base int) {
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		e.take(r, base+i, base+i+size)
		i += size
	}
	e.flush()
}

func (e *encoder) take(r rune, from, to int) {
	switch {
	case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
		e.add(r, from, to)
	case 'A' <= r && r <= 'Z':
		e.add(r+'a'-'A', from, to)
	case r == '\t' || r == '\n' || r == '\r' || unicode.IsSpace(r) && !unicode.Is(unicode.Cc, r):
		e.flush()
	case r == 0 || r == utf8.RuneError || isOther(r):
		// Removed characters do not end a word.
	case isPunctuation(r), isChinese(r):
		e.flush()
		e.add(r, from, to)
		e.flush()
	case r < utf8.RuneSelf:
		e.add(r, from, to)
	default:
		e.decompose(r, from, to)
	}
}

// decompose strips accents: the canonical decomposition without its nonspacing marks, in lower case.
func (e *encoder) decompose(r rune, from, to int) {
	var buf [utf8.UTFMax * 4]byte
	for _, d := range string(norm.NFD.AppendString(buf[:0], string(r))) {
		switch {
		case unicode.Is(unicode.Mn, d):
		case isPunctuation(d):
			e.flush()
			e.add(d, from, to)
			e.flush()
		default:
			e.add(unicode.ToLower(d), from, to)
		}
	}
}

func (e *encoder) add(r rune, from, to int) {
	if e.runes > maxWord { // [UNK] already: a word of any length takes no more memory
		e.to[len(e.to)-1] = to
		return
	}
	before := len(e.word)
	e.word = utf8.AppendRune(e.word, r)
	for range len(e.word) - before {
		e.from, e.to = append(e.from, from), append(e.to, to)
	}
	e.runes++
}

// flush splits the collected word into the longest pieces of the vocabulary.
func (e *encoder) flush() {
	if len(e.word) == 0 {
		return
	}
	first := len(e.tokens)
	if e.runes > maxWord || !e.pieces() {
		e.tokens = append(e.tokens[:first], Token{e.t.unk, e.from[0], e.to[len(e.to)-1]})
	}
	e.word, e.from, e.to, e.runes = e.word[:0], e.from[:0], e.to[:0], 0
}

func (e *encoder) pieces() bool {
	var key [4 * (maxWord + 1)]byte
	for start := 0; start < len(e.word); {
		prefix := 0
		if start > 0 {
			prefix = copy(key[:], "##")
		}
		end := min(len(e.word), start+e.t.longest)
		for ; end > start; end-- {
			n := prefix + copy(key[prefix:], e.word[start:end])
			if id, ok := e.t.vocab[string(key[:n])]; ok {
				e.tokens = append(e.tokens, Token{id, e.from[start], e.to[end-1]})
				break
			}
		}
		if end == start {
			return false
		}
		start = end
	}
	return true
}

// isOther reports Unicode's general category C: control, format, private use, surrogate, unassigned.
func isOther(r rune) bool {
	return unicode.Is(unicode.C, r) || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z)
}

// isPunctuation reports punctuation; as in BERT, every ASCII symbol is punctuation.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return '!' <= r && r <= '/' || ':' <= r && r <= '@' || '[' <= r && r <= '`' || '{' <= r && r <= '~'
	}
	return unicode.IsPunct(r)
}

// isChinese reports the ideographs that BERT makes separate tokens; kana and hangul are not among them.
func isChinese(r rune) bool {
	return 0x4E00 <= r && r <= 0x9FFF || 0x3400 <= r && r <= 0x4DBF || 0x20000 <= r && r <= 0x2A6DF || 0x2A700 <= r &&
		r <= 0x2CEAF ||
		0xF900 <= r && r <= 0xFAFF || 0x2F800 <= r && r <= 0x2FA1F
}
