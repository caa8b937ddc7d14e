package otel

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// Limits on what one record may bring. What exceeds them is cut, with a mark that has its size and hash.
const (
	maxAttributes = 1000 // of a span or log record
	maxResource   = 100  // attributes of a resource
	maxItems      = 128  // events and links of a span, each
	maxKey        = 256  // bytes of a name
	maxNesting    = 20   // levels of a value; deeper ones become text
	maxNumber     = 40   // bytes of a number in JSON that came as text
	reservedNames = "konstruct."
)

// encoder writes values as JSON that PostgreSQL can hold: valid UTF-8 without NUL, names once, no reserved names. It
// writes them as PostgreSQL shows jsonb, shorter names first, so that what was stored compares with what was sent byte
// by byte: to decode both took a third of the time of an export.
type encoder struct {
	buf     []byte
	maxText int  // bytes of a text
	maxSize int  // bytes of buf after which no further item is added; 0: no limit
	altered bool // something differs from what was sent, and has no mark of its own
}

// name writes a name and its colon.
func (e *encoder) name(s string) {
	e.quote(s)
	e.buf = append(e.buf, ':', ' ')
}

// cleanName returns a name as it is written, and whether that differs: one that only the service writes gets a "_",
// what PostgreSQL can't hold becomes U+FFFD, and a long one is cut.
func cleanName(s string) (name string, altered bool) {
	name = s
	if strings.HasPrefix(name, reservedNames) {
		name = "_" + name
	}
	name = pgtext.Clean(name)
	if len(name) > maxKey {
		sum := sha256.Sum256([]byte(name))
		name = fmt.Sprintf("%s…%x", pgtext.Head(name, maxKey-20), sum[:8])
	}
	return name, name != s
}

// next writes the comma between two items.
func (e *encoder) next() { e.buf = append(e.buf, ',', ' ') }

// byLength is the order of names in jsonb.
func byLength(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// text writes a text, cut to maxText.
func (e *encoder) text(s string) {
	if len(s) > e.maxText {
		s = pgtext.Head(s, e.maxText) + pgtext.Mark(s)
	}
	e.quote(s)
}

const hexDigits = "0123456789abcdef"

// quote writes a JSON string. What PostgreSQL can't hold becomes U+FFFD.
func (e *encoder) quote(s string) {
	e.buf = append(e.buf, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				e.buf = append(append(e.buf, s[from:i]...), "\ufffd"...)
				e.altered = true
				from = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		e.buf = append(e.buf, s[from:i]...)
		switch c {
		case '"', '\\':
			e.buf = append(e.buf, '\\', c)
		case '\n':
			e.buf = append(e.buf, '\\', 'n')
		case '\t':
			e.buf = append(e.buf, '\\', 't')
		case '\r':
			e.buf = append(e.buf, '\\', 'r')
		case '\b':
			e.buf = append(e.buf, '\\', 'b')
		case '\f':
			e.buf = append(e.buf, '\\', 'f')
		case 0:
			e.buf = append(e.buf, "\ufffd"...)
			e.altered = true
		default:
			e.buf = append(e.buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	e.buf = append(append(e.buf, s[from:]...), '"')
}

func (e *encoder) integer(n int64) { e.buf = strconv.AppendInt(e.buf, n, 10) }

func (e *encoder) unsigned(n uint64) { e.buf = strconv.AppendUint(e.buf, n, 10) }

// float writes a number; JSON has neither NaN nor infinity, which become text.
func (e *encoder) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		e.quote(strconv.FormatFloat(f, 'g', -1, 64))
		return
	}
	e.buf = strconv.AppendFloat(e.buf, f, 'f', -1, 64) // without an exponent, as PostgreSQL writes it
}

// full reports whether no further item is added, and writes a mark if so.
func (e *encoder) full(left int) bool {
	return e.maxSize > 0 && len(e.buf) > e.maxSize && left > 0
}

// value writes an attribute's value.
func (e *encoder) value(v pcommon.Value, level int) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		e.text(v.Str())
	case pcommon.ValueTypeInt:
		e.buf = strconv.AppendInt(e.buf, v.Int(), 10)
	case pcommon.ValueTypeDouble:
		e.float(v.Double())
	case pcommon.ValueTypeBool:
		e.buf = strconv.AppendBool(e.buf, v.Bool())
	case pcommon.ValueTypeBytes:
		e.text(base64.StdEncoding.EncodeToString(v.Bytes().AsRaw()))
	case pcommon.ValueTypeSlice:
		if level >= maxNesting {
			e.text(v.AsString())
			return
		}
		e.buf = append(e.buf, '[')
		all := v.Slice()
		for i := range all.Len() {
			if i > 0 {
				e.next()
			}
			if e.full(all.Len() - i) {
				e.quote(fmt.Sprintf("… [cut: %d more items]", all.Len()-i))
				break
			}
			e.value(all.At(i), level+1)
		}
		e.buf = append(e.buf, ']')
	case pcommon.ValueTypeMap:
		if level >= maxNesting {
			e.text(v.AsString())
			return
		}
		e.object(v.Map(), maxAttributes, level)
	default:
		e.buf = append(e.buf, "null"...)
	}
}

// attributes writes the first most attributes as an object.
func (e *encoder) attributes(m pcommon.Map, most int) { e.object(m, most, 0) }

func (e *encoder) object(m pcommon.Map, most, level int) {
	var few [12]attribute
	all := few[:0]
	for name, v := range m.All() {
		if len(all) == most {
			e.altered = true // the rest is not written
			break
		}
		clean, altered := cleanName(name)
		e.altered = e.altered || altered
		all = append(all, attribute{clean, v})
	}
	slices.SortStableFunc(all, func(a, b attribute) int { return byLength(a.name, b.name) })
	e.buf = append(e.buf, '{')
	written := 0
	for i, a := range all {
		if i > 0 && all[i-1].name == a.name || e.full(1) {
			e.altered = true // a name stands twice, and the first counts, or there is no room
			continue
		}
		if written > 0 {
			e.next()
		}
		written++
		e.name(a.name)
		e.value(a.value, level+1)
	}
	e.buf = append(e.buf, '}')
}

// any writes decoded JSON, as encoding/json with UseNumber returns it, or what pcommon's AsRaw returns.
func (e *encoder) any(v any, level int) {
	if level > maxNesting {
		raw, err := strictjson.Marshal(v)
		if err != nil {
			raw = nil // a value of no JSON type, which neither decoder returns
		}
		e.text(string(raw))
		return
	}
	switch v := v.(type) {
	case nil:
		e.buf = append(e.buf, "null"...)
	case string:
		e.text(v)
	case bool:
		e.buf = strconv.AppendBool(e.buf, v)
	case int64:
		e.buf = strconv.AppendInt(e.buf, v, 10)
	case float64:
		e.float(v)
	case json.Number:
		if f, err := v.Float64(); err != nil || len(v) > maxNumber || f == 0 && v != "0" && v != "0.0" {
			e.quote(pgtext.Head(string(v), maxNumber) + pgtext.Mark(string(v)))
			return
		}
		e.buf = strictjson.AppendWritten(e.buf, string(v))
	case []byte:
		e.text(base64.StdEncoding.EncodeToString(v))
	case []any:
		e.buf = append(e.buf, '[')
		for i, item := range v {
			if i > 0 {
				e.next()
			}
			if e.full(len(v) - i) {
				e.quote(fmt.Sprintf("… [cut: %d more items]", len(v)-i))
				break
			}
			e.any(item, level+1)
		}
		e.buf = append(e.buf, ']')
	case map[string]any:
		e.buf = append(e.buf, '{')
		var few [12][2]string
		names := few[:0] // as written, and as sent
		for name := range v {
			clean, altered := cleanName(name)
			e.altered = e.altered || altered
			names = append(names, [2]string{clean, name})
		}
		slices.SortFunc(names, func(a, b [2]string) int {
			return cmp.Or(byLength(a[0], b[0]), strings.Compare(a[1], b[1]))
		})
		for i, name := range names {
			if e.full(1) || i > 0 && names[i-1][0] == name[0] {
				e.altered = true
				continue
			}
			if i > 0 {
				e.next()
			}
			e.name(name[0])
			e.any(v[name[1]], level+1)
		}
		e.buf = append(e.buf, '}')
	default:
		e.text(fmt.Sprint(v))
	}
}
