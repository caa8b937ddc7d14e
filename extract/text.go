package extract

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gogs/chardet"
	"golang.org/x/net/html/charset"
	encoding "golang.org/x/text/encoding/unicode"
)

// decode converts text to UTF-8: from UTF-8, from UTF-16 with or without a byte order mark, or from the most likely
// encoding.
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
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return nil, fmt.Errorf("not text: a NUL at byte %d", i)
	}
	if utf8.Valid(raw) {
		return raw, nil
	}
	return guess(raw)
}

// detectBytes is the size of the sample, and surely the least confidence of 100, for detecting an encoding.
const (
	detectBytes = 64 << 10
	surely      = 15
)

// guess decodes text that is not UTF-8 from the most likely encoding, since files do not state theirs.
func guess(raw []byte) ([]byte, error) {
	bad := 0
	for bad < len(raw) {
		r, size := utf8.DecodeRune(raw[bad:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		bad += size
	}
	// The sample begins shortly before the first byte that is not ASCII or UTF-8.
	from := max(0, bad-detectBytes/4)
	sample := raw[from:min(len(raw), from+detectBytes)]
	name := ""
	if best, err := chardet.NewTextDetector().DetectBest(sample); err == nil && best.Confidence >= surely {
		name = best.Charset
	} else if mostlyASCII(sample) { // too few accents to detect: assume what browsers assume
		name = "windows-1252"
	}
	if name != "" {
		if e, _ := charset.Lookup(strings.TrimSuffix(name, "-I")); e != nil {
			if text, err := e.NewDecoder().Bytes(raw); err == nil && utf8.Valid(text) && bytes.IndexByte(text, 0) < 0 {
				return text, nil
			}
		}
	}
	return nil, fmt.Errorf("not text of an encoding that could be told: byte 0x%02X at %d; convert it to UTF-8 "+
		"first, for example with iconv", raw[bad], bad)
}

func mostlyASCII(b []byte) bool {
	high := 0
	for _, c := range b {
		if c >= utf8.RuneSelf {
			high++
		}
	}
	return high*4 < len(b)
}

// readText reads plain text: empty lines separate paragraphs.
func readText(raw []byte) (*Document, error) {
	text, err := decode(raw)
	if err != nil {
		return nil, err
	}
	d := &Document{Text: string(text)}
	return d, paragraphs(d, text, 0, 0)
}

// paragraphs appends text's paragraphs; base is text's offset in the document.
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
			d.Blocks = append(d.Blocks,
				Block{Text: flat(string(text[start+lead : start+tail])), Start: base + start + lead,
					End: base + start + tail, Page: page})
			if err := tooMany(d.Blocks); err != nil {
				return err
			}
		}
		start = next
	}
	return nil
}
