package extract

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	encoding "golang.org/x/text/encoding/unicode"
)

// decode brings text to UTF-8: it is UTF-8 already, or UTF-16 with its mark or plainly so without.
func decode(raw []byte) ([]byte, error) {
	raw = bytes.TrimPrefix(raw, []byte("\xEF\xBB\xBF"))
	if looksUTF16(raw) {
		endian := encoding.LittleEndian
		if even, odd := nuls(raw); even > odd {
			endian = encoding.BigEndian
		}
		b, err := encoding.UTF16(endian, encoding.UseBOM).NewDecoder().Bytes(raw)
		if err != nil {
			return nil, fmt.Errorf("decode UTF-16: %w", err)
		}
		raw = b
	}
	for i := 0; i < len(raw); {
		if raw[i] < utf8.RuneSelf {
			if raw[i] == 0 {
				return nil, fmt.Errorf("not text: a NUL at byte %d", i)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && size == 1 {
			return nil, fmt.Errorf("not UTF-8 text: byte 0x%02X at %d; convert it first, for example with iconv", raw[i], i)
		}
		i += size
	}
	return raw, nil
}

// readText takes what stands between empty lines as a paragraph.
func readText(raw []byte) (*Document, error) {
	text, err := decode(raw)
	if err != nil {
		return nil, err
	}
	d := &Document{}
	return d, paragraphs(d, text, 0, 0)
}

// paragraphs appends text's paragraphs; base is where text stands in its document.
func paragraphs(d *Document, text []byte, base, page int) error {
	for start := 0; start < len(text); {
		end, next := len(text), len(text)
		for i := start; i < len(text); {
			nl := bytes.IndexByte(text[i:], '\n')
			if nl < 0 {
				break
			}
			i += nl + 1
			after := i
			for after < len(text) && (text[after] == ' ' || text[after] == '\t' || text[after] == '\r') {
				after++
			}
			if after < len(text) && text[after] == '\n' {
				end, next = i, after+1
				break
			}
		}
		lead := len(text[start:end]) - len(bytes.TrimLeftFunc(text[start:end], unicode.IsSpace))
		tail := len(bytes.TrimRightFunc(text[start:end], unicode.IsSpace))
		if lead < tail {
			d.Blocks = append(d.Blocks, Block{Text: flat(string(text[start+lead : start+tail])), Start: base + start + lead, End: base + start + tail, Page: page})
			if err := tooMany(d.Blocks); err != nil {
				return err
			}
		}
		start = next
	}
	return nil
}
