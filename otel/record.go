package otel

import (
	"slices"
	"strings"

	jsoniter "github.com/json-iterator/go"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// attribute is a name with its value.
type attribute struct {
	name  string
	value pcommon.Value
}

// record is one span or log record while it is mapped: its attributes sorted into fields. One is used for all of an
// export, since to make it anew took a third of the mapping's time.
type record struct {
	from    *origin
	name    string // of the span or event
	slots   [fields]pcommon.Value
	ranks   [fields]int         // 1 + the rank of the name that filled the slot; 0: empty
	named   [fields]string      // that name
	rest    []attribute         // attributes of no field
	lists   map[string]any      // lists that came flattened, by their prefix
	ended   []any               // the finish reasons of messages
	coding  *codingEvent        // of a coding agent's log record
	skipped int                 // attributes beyond maxAttributes
	notes   map[string]struct{} // names whose value differs from what was sent
	values  encoder             // writes the members of the event's metadata
	members []member            // where they are
	bound   bound
	full    bool // the metadata is too large
}

// begin makes r ready for a record of an origin, whose metadata has at most the bound's texts and values.
func (r *record) begin(from *origin, name string, b bound) {
	*r = record{from: from, name: name, bound: b, rest: r.rest[:0], members: r.members[:0],
		values: encoder{buf: r.values.buf[:0], maxText: b.text}}
}

// flattened are the prefixes of attributes that spread a list of objects: llm.input_messages.0.message.role.
var flattened = []string{"llm.input_messages", "llm.output_messages", "gen_ai.prompt", "gen_ai.completion",
	"retrieval.documents", "reranker.input_documents", "reranker.output_documents", "embedding.embeddings",
	"llm.prompts", "llm.choices"}

// read sorts attributes into fields.
func (r *record) read(m pcommon.Map) {
	r.rest = slices.Grow(r.rest, min(m.Len(), maxAttributes))
	for name, v := range m.All() {
		if at, known := places[name]; known {
			r.fill(at, name, v)
			continue
		}
		if prefix, path := listed(name); prefix != "" && r.spread(prefix, path, v) {
			continue
		}
		if len(r.rest) >= maxAttributes {
			r.skipped++
			continue
		}
		r.rest = append(r.rest, attribute{name, v})
	}
}

// fill puts a value into its field. A field that two attributes fill has the preferred one's value; the other is kept
// under its own name if it says something else.
func (r *record) fill(at place, name string, v pcommon.Value) {
	f := at.field
	if v.Type() == pcommon.ValueTypeEmpty || v.Type() == pcommon.ValueTypeStr && v.Str() == "" {
		r.rest = append(r.rest, attribute{name, v})
		return
	}
	counts := f != cost && slices.Contains(usageFields, f)
	switch {
	case r.ranks[f] == 0:
	case counts && r.number(f) < 0 && count(v) >= 0: // a count counts before what is none, whichever came first
		r.rest = append(r.rest, attribute{r.named[f], r.slots[f]})
	case counts && r.number(f) >= 0 && count(v) < 0:
		r.rest = append(r.rest, attribute{name, v})
		return
	case r.slots[f].AsString() == v.AsString():
		return
	case r.ranks[f] <= at.rank+1:
		r.rest = append(r.rest, attribute{name, v})
		return
	default:
		r.rest = append(r.rest, attribute{r.named[f], r.slots[f]})
	}
	r.set(f, name, v, at.rank+1)
}

func (r *record) set(f field, name string, v pcommon.Value, rank int) {
	r.slots[f], r.named[f], r.ranks[f] = v, name, rank
}

func (r *record) has(f field) bool { return r.ranks[f] > 0 }

// fieldText returns a field's value as text, or "".
func (r *record) fieldText(f field) string {
	if r.ranks[f] == 0 {
		return ""
	}
	return r.slots[f].AsString()
}

// text returns the value of an attribute of no field as text, or "".
func (r *record) text(name string) string {
	for i := range r.rest {
		if r.rest[i].name == name {
			return r.rest[i].value.AsString()
		}
	}
	return ""
}

// take removes an attribute of no field, and returns its value as text, or "".
func (r *record) take(name string) string {
	for i := range r.rest {
		if r.rest[i].name == name {
			v := r.rest[i].value.AsString()
			r.rest = append(r.rest[:i], r.rest[i+1:]...)
			return v
		}
	}
	return ""
}

// restore returns a field's attribute to those of no field: it is not what the event needs.
func (r *record) restore(f field) {
	if r.ranks[f] > 0 {
		r.rest = append(r.rest, attribute{r.named[f], r.slots[f]})
		r.ranks[f] = 0
	}
}

// listed returns the prefix of a flattened list's attribute and the path below it.
func listed(name string) (prefix, path string) {
	if c := name[:min(len(name), 1)]; c != "l" && c != "g" && c != "r" && c != "e" {
		return "", ""
	}
	for _, p := range flattened {
		if rest, is := strings.CutPrefix(name, p+"."); is && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return p, rest
		}
	}
	return "", ""
}

// maxList is how many items a flattened list has at most; attributes of later ones keep their names.
const maxList = 1000

// spread puts a value at a path of dots below a flattened list. It reports false for a path that is none.
func (r *record) spread(prefix, path string, v pcommon.Value) bool {
	parts := strings.Split(path, ".")
	if len(parts) > 12 {
		return false
	}
	if r.lists == nil {
		r.lists = map[string]any{}
	}
	at, is := r.lists[prefix].(map[string]any)
	if !is {
		at = map[string]any{}
		r.lists[prefix] = at
	}
	for _, p := range parts[:len(parts)-1] {
		next, is := at[p].(map[string]any)
		if !is {
			if _, taken := at[p]; taken || len(at) >= maxList {
				return false
			}
			next = map[string]any{}
			at[p] = next
		}
		at = next
	}
	last := parts[len(parts)-1]
	if _, taken := at[last]; taken || len(at) >= maxList {
		return false
	}
	at[last] = v.AsRaw()
	return true
}

// lined returns objects whose names are 0, 1, 2… as lists, at every level.
func lined(v any) any {
	m, is := v.(map[string]any)
	if !is {
		return v
	}
	for name, item := range m {
		m[name] = lined(item)
	}
	list := make([]any, len(m))
	for name, item := range m {
		i := 0
		for _, c := range []byte(name) {
			if c < '0' || c > '9' || i > maxList {
				return m
			}
			i = i*10 + int(c-'0')
		}
		if i >= len(list) || list[i] != nil || name == "" || len(name) > 1 && name[0] == '0' {
			return m // some are missing
		}
		list[i] = item
	}
	if len(list) == 0 {
		return m
	}
	return list
}

// list returns a flattened list as a list, and nil if there is none.
func (r *record) list(prefix string) []any {
	v, there := r.lists[prefix]
	if !there {
		return nil
	}
	delete(r.lists, prefix)
	switch v := lined(v).(type) {
	case []any:
		return v
	case map[string]any: // an index is missing: in the order of their numbers
		return inOrder(v)
	}
	return nil
}

// decoded returns a value that is JSON in a text as what it says, and others as they are.
func decoded(v pcommon.Value) any {
	if v.Type() != pcommon.ValueTypeStr {
		return v.AsRaw()
	}
	return decodedText(v.Str())
}

// maxDecoded is the size in bytes of a text that is decoded as JSON; a longer one stays a text.
const maxDecoded = 4 << 20

func decodedText(s string) any {
	trimmed := strings.TrimSpace(s)
	if trimmed == "" || trimmed[0] != '[' && trimmed[0] != '{' || len(trimmed) > maxDecoded {
		return s
	}
	if v, ok := decodePlain(trimmed); ok {
		return v
	}
	var v any
	if fastJSON.UnmarshalFromString(trimmed, &v) != nil {
		return s
	}
	return v
}

// fastJSON decodes with numbers as they are written. It takes a third of encoding/json's time, which was half of the
// mapping's; pdata reads OTLP's JSON by it too.
var fastJSON = jsoniter.Config{UseNumber: true}.Froze()
