package extract

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// codePages are the Windows code pages.
var codePages = map[int]encoding.Encoding{
	437: charmap.CodePage437, 850: charmap.CodePage850, 852: charmap.CodePage852, 866: charmap.CodePage866,
	874: charmap.Windows874, 932: japanese.ShiftJIS,
	936: simplifiedchinese.GBK, 949: korean.EUCKR, 950: traditionalchinese.Big5, 1250: charmap.Windows1250,
	1251: charmap.Windows1251, 1252: charmap.Windows1252,
	1253: charmap.Windows1253, 1254: charmap.Windows1254, 1255: charmap.Windows1255, 1256: charmap.Windows1256,
	1257: charmap.Windows1257, 1258: charmap.Windows1258, 10000: charmap.Macintosh,
}

// unreadGroups are RTF destinations without text for readers.
var unreadGroups = map[string]bool{"fonttbl": true, "colortbl": true, "stylesheet": true, "pict": true, "object": true,
	"themedata": true, "colorschememapping": true, "latentstyles": true,
	"datastore": true, "listtable": true, "listoverridetable": true, "rsidtbl": true, "generator": true, "header": true,
	"footer": true, "headerl": true, "headerr": true, "footerl": true, "footerr": true, "headerf": true,
	"footerf": true, "xe": true, "rxe": true, "tc": true, "tcn": true, "filetbl": true,
	"fldinst": true, "xmlnstbl": true, "revtbl": true, "operator": true, "mmathPr": true, "listtext": true,
	"pntext": true}

// rtf is the state of the reader.
type rtf struct {
	w       writer
	page    encoding.Encoding
	text    strings.Builder
	bytes   []byte   // in the code page, not yet decoded
	units   []uint16 // UTF-16, not yet decoded
	skip    int      // fallback characters of the last \u to skip
	groups  []rtfGroup
	b       Block
	inTable bool
	table   table
}

// rtfGroup is the state that a closing brace restores.
type rtfGroup struct {
	unread  bool
	instead int    // number of fallback characters after \u
	into    string // inside \info: title or author, or info for the other properties, which are not text
}

// readRTF reads Rich Text Format 1.9.
func readRTF(ctx context.Context, raw []byte) (*Document, error) {
	r := &rtf{page: charmap.Windows1252, groups: []rtfGroup{{instead: 1}}}
	for i, n := 0, 0; i < len(raw); n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		switch c := raw[i]; c {
		case '{':
			if len(r.groups) > 16*maxDepth {
				return nil, fmt.Errorf("%w: its groups are nested more than %d deep", ErrTooLarge, 16*maxDepth)
			}
			r.groups = append(r.groups, *r.group())
			i++
		case '}':
			if r.settle(); len(r.groups) > 1 {
				r.groups = r.groups[:len(r.groups)-1]
			}
			i++
		case '\\':
			next, err := r.control(raw, i+1)
			if err != nil {
				return nil, err
			}
			i = next
		case '\r', '\n':
			i++
		default:
			r.char(c)
			i++
		}
	}
	return &r.w.Document, r.paragraph()
}

func (r *rtf) group() *rtfGroup { return &r.groups[len(r.groups)-1] }

func (r *rtf) char(c byte) {
	if r.skip > 0 {
		r.skip--
		return
	}
	if !r.group().unread {
		r.unitsDone()
		r.bytes = append(r.bytes, c)
	}
}

func (r *rtf) unitsDone() {
	if len(r.units) > 0 {
		r.put(string(utf16.Decode(r.units)))
		r.units = r.units[:0]
	}
}

// settle decodes the pending bytes or UTF-16 units.
func (r *rtf) settle() {
	r.unitsDone()
	if len(r.bytes) > 0 {
		s, err := r.page.NewDecoder().Bytes(r.bytes)
		if err == nil {
			r.put(string(s))
		}
		r.bytes = r.bytes[:0]
	}
}

func (r *rtf) put(s string) {
	switch r.group().into {
	case "title":
		r.w.Title += s
	case "author":
		r.w.Author += s
	case "":
		r.text.WriteString(s)
	}
}

// control parses a control word or symbol at i, and returns the offset after it.
func (r *rtf) control(raw []byte, i int) (int, error) {
	if i >= len(raw) {
		return i, nil
	}
	if c := raw[i]; c == '\'' {
		if i+2 < len(raw) {
			if n, err := strconv.ParseUint(string(raw[i+1:i+3]), 16, 8); err == nil {
				r.char(byte(n))
			}
			return i + 3, nil
		}
		return len(raw), nil
	} else if c < 'A' || c > 'z' || c > 'Z' && c < 'a' {
		switch c {
		case '*':
			r.group().unread = true
		case '\\', '{', '}':
			r.char(c)
		case '~':
			r.char(' ')
		case '\n', '\r':
			return i + 1, r.paragraph()
		}
		return i + 1, nil
	}
	end := i
	for end < len(raw) && (raw[end] >= 'a' && raw[end] <= 'z' || raw[end] >= 'A' && raw[end] <= 'Z') {
		end++
	}
	word := string(raw[i:min(end, i+32)])
	at := end
	if at < len(raw) && raw[at] == '-' {
		at++
	}
	for at < len(raw) && raw[at] >= '0' && raw[at] <= '9' && at-end < 11 {
		at++
	}
	n, err := strconv.Atoi(string(raw[end:at]))
	given := err == nil
	if at < len(raw) && raw[at] == ' ' {
		at++
	}
	if word == "bin" && given && n > 0 {
		return min(at+n, len(raw)), nil
	}
	return at, r.word(word, n, given)
}

func (r *rtf) word(word string, n int, given bool) error {
	g := r.group()
	if unreadGroups[word] {
		r.settle()
		g.unread = true
		return nil
	}
	switch word {
	case "ansicpg":
		if page := codePages[n]; page != nil {
			r.page = page
		}
	case "info":
		r.settle()
		g.into = "info"
	case "title", "author":
		if g.into == "info" {
			r.settle()
			if word == "title" && r.w.Title == "" || word == "author" && r.w.Author == "" {
				g.into = word
			}
		}
	case "footnote":
		r.settle()
		g.unread = false // although \* marks it as ignorable
		r.text.WriteByte(' ')
	case "u":
		if g.unread {
			return nil
		}
		if len(r.bytes) > 0 {
			r.settle()
		}
		r.units = append(r.units, uint16(n)) // negative above 32767
		r.skip = g.instead
	case "uc":
		g.instead = max(0, min(n, 8))
	}
	if g.unread || g.into != "" {
		return nil
	}
	switch word {
	case "par", "page", "sect":
		return r.paragraph()
	case "row":
		r.settle()
		if r.text.Len() > 0 {
			r.table.cells = append(r.table.cells, r.text.String())
			r.text.Reset()
		}
		return r.w.tableRow(&r.table, 0)
	case "line", "tab", "emspace", "enspace":
		r.char(' ')
	case "emdash", "endash", "lquote", "rquote", "ldblquote", "rdblquote", "bullet":
		r.settle()
		r.text.WriteString(map[string]string{"emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’",
			"ldblquote": "“", "rdblquote": "”", "bullet": "•"}[word])
	case "pard":
		r.b, r.inTable = Block{}, false
	case "intbl":
		r.inTable = true
	case "cell":
		r.settle()
		r.table.cells = append(r.table.cells, r.text.String())
		r.text.Reset()
	case "outlinelevel":
		if level := outline(n, nil); given && level > 0 {
			r.b.Kind, r.b.Level = Heading, level
		}
	case "ls", "pnlvlblt":
		if r.b.Kind == Paragraph {
			r.b.Kind = Item
		}
	}
	return nil
}

// paragraph ends the current paragraph.
func (r *rtf) paragraph() error {
	r.settle()
	if r.inTable { // inside a cell
		if r.text.Len() > 0 {
			r.text.WriteByte(' ')
		}
		return nil
	}
	r.table = table{}
	r.b.Text = r.text.String()
	r.text.Reset()
	return r.w.add(r.b)
}
