package otel

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/konstruct/konstruct/audit"
)

// member is a name of an event's metadata with what writes its value.
type member struct {
	name  string
	write func(*encoder)
}

func (r *record) add(name string, write func(*encoder)) {
	r.members = append(r.members, member{name, write})
}

func (r *record) addText(name, value string) {
	if value != "" {
		r.add(name, func(e *encoder) { e.text(value) })
	}
}

func (r *record) addCount(name string, n int64) {
	if n >= 0 {
		r.add(name, func(e *encoder) { e.any(n, 0) })
	}
}

// bounds are how large a record's texts and values may be in bytes, tried in turn until the metadata fits.
var bounds = []struct{ text, value int }{{audit.MaxSummary, 192 << 10}, {8 << 10, 32 << 10}, {512, 4 << 10}, {64, 128}}

// metadata writes the members as JSON. If it is too large, texts and values are cut further.
func (r *record) metadata() json.RawMessage {
	slices.SortStableFunc(r.members, func(a, b member) int { return byLength(a.name, b.name) })
	r.members = slices.CompactFunc(r.members, func(a, b member) bool { return a.name == b.name })
	var e encoder
	for _, bound := range bounds {
		e = encoder{buf: make([]byte, 0, 2048), maxText: bound.text}
		e.buf = append(e.buf, '{')
		for i, m := range r.members {
			if i > 0 {
				e.next()
			}
			e.altered = false
			e.name(m.name)
			e.maxSize = len(e.buf) + bound.value
			m.write(&e)
			if e.altered {
				r.note(m.name)
			}
		}
		if len(r.notes) > 0 {
			r.writeNotes(&e)
		}
		e.buf = append(e.buf, '}')
		if len(e.buf) <= audit.MaxMetadata {
			break
		}
	}
	if len(e.buf) > audit.MaxMetadata { // a thousand attributes of long names
		r.members = slices.DeleteFunc(r.members, func(m member) bool {
			return !ownNames[m.name] &&
				!strings.HasSuffix(m.name, "_id")
		})
		r.note("")
		return r.metadata()
	}
	return e.buf
}

// ownNames are the reserved names that a mapped event has.
var ownNames = map[string]bool{"konstruct.altered": true, "konstruct.omitted_attributes": true}

// writeNotes writes which names have another value than was sent: in place of what JSON in PostgreSQL can't hold there
// is U+FFFD, a name stood twice, or items were left out.
func (r *record) writeNotes(e *encoder) {
	all := make([]string, 0, len(r.notes))
	for name := range r.notes {
		all = append(all, name)
	}
	slices.Sort(all)
	if len(e.buf) > 1 {
		e.next()
	}
	e.buf = append(e.buf, `"konstruct.altered": [`...)
	e.maxText = maxKey
	for i, name := range all[:min(len(all), 100)] {
		if i > 0 {
			e.next()
		}
		e.text(name)
	}
	e.buf = append(e.buf, ']')
}
