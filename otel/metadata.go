package otel

import (
	"encoding/json"
	"slices"

	"github.com/konstruct/konstruct/audit"
)

// member is where a member of an event's metadata stands, with its name, in what the record's encoder wrote.
type member struct {
	name     string
	from, to int
}

// bound is how large a record's texts and values may be in bytes.
type bound struct {
	text, value int
	last        bool // what does not fit is left out
}

// bounds are tried in turn until the metadata fits.
var bounds = []bound{{text: audit.MaxSummary, value: 192 << 10}, {text: 8 << 10, value: 32 << 10},
	{text: 512, value: 4 << 10}, {text: 64, value: 128, last: true}}

// notesSize is how much of the largest metadata is for what addNotes writes, in bytes.
const notesSize = 16 << 10

// bounded maps a record within the first of the bounds that its metadata fits.
func bounded(try func(bound) (Mapped, bool)) Mapped {
	for _, b := range bounds[:len(bounds)-1] {
		if m, fits := try(b); fits {
			return m
		}
	}
	m, _ := try(bounds[len(bounds)-1])
	return m
}

// add adds a member to the metadata. It reports false if there is no room.
func (r *record) add(name string, write func(*encoder)) bool {
	if r.full && !r.bound.last {
		return false // another bound follows
	}
	e := &r.values
	from := len(e.buf)
	e.name(name)
	e.altered, e.maxSize = false, len(e.buf)+r.bound.value
	write(e)
	if len(e.buf)+2*len(r.members) > audit.MaxMetadata-notesSize {
		r.full = true
		if e.buf = e.buf[:from]; r.bound.last {
			r.note("")
		}
		return false
	}
	if e.altered {
		r.note(name)
	}
	r.members = append(r.members, member{name, from, len(e.buf)})
	return true
}

func (r *record) addText(name, value string) {
	if value != "" {
		r.add(name, func(e *encoder) { e.text(value) })
	}
}

func (r *record) addCount(name string, n int64) {
	if n >= 0 {
		r.add(name, func(e *encoder) { e.integer(n) })
	}
}

// metadata returns the members as JSON, in jsonb's order. It reports false if they don't fit.
func (r *record) metadata() (raw json.RawMessage, fits bool) {
	if r.full && !r.bound.last {
		return nil, false
	}
	if len(r.notes) > 0 {
		r.addNotes()
	}
	slices.SortStableFunc(r.members, func(a, b member) int { return byLength(a.name, b.name) })
	r.members = slices.CompactFunc(r.members, func(a, b member) bool { return a.name == b.name })
	raw = make([]byte, 0, len(r.values.buf)+2*len(r.members)+2)
	raw = append(raw, '{')
	for i, m := range r.members {
		if i > 0 {
			raw = append(raw, ", "...)
		}
		raw = append(raw, r.values.buf[m.from:m.to]...)
	}
	return append(raw, '}'), true
}

// note remembers that a name's value differs from what was sent.
func (r *record) note(name string) {
	if r.notes == nil {
		r.notes = map[string]struct{}{}
	}
	r.notes[name] = struct{}{}
}

// addNotes adds how many attributes were left out, and which names have another value than was sent: in place of what
// JSON in PostgreSQL can't hold there is U+FFFD, a name stood twice, or items were left out.
func (r *record) addNotes() {
	all := make([]string, 0, len(r.notes))
	for name := range r.notes {
		all = append(all, name)
	}
	slices.Sort(all)
	e := &r.values
	from := len(e.buf)
	if r.skipped > 0 {
		e.name("konstruct.omitted_attributes")
		e.integer(int64(r.skipped))
		r.members = append(r.members, member{"konstruct.omitted_attributes", from, len(e.buf)})
		from = len(e.buf)
	}
	e.name("konstruct.altered")
	e.buf = append(e.buf, '[')
	e.maxText = maxKey
	for i, name := range all[:min(len(all), 100)] {
		if len(e.buf)-from > notesSize-8*maxKey { // a byte of a name may become six
			break
		}
		if i > 0 {
			e.next()
		}
		e.text(name)
	}
	e.buf = append(e.buf, ']')
	r.members = append(r.members, member{"konstruct.altered", from, len(e.buf)})
}
