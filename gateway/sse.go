package gateway

import "bytes"

// eventReader reads a stream of server-sent events as its bytes arrive, and says which of them may be passed on: those
// of the events before the last one. Bytes of an event that is not over are held, so that the last event of a stream,
// whichever it is, can wait until the call is logged.
type eventReader struct {
	d    dialect
	a    *answer
	data *scanner

	line    []byte // the current line's first bytes
	partial bool   // the line's data are already with the scanner
	name    string
	head    []byte // the data's first bytes
	empty   bool   // the event has no field yet
	cr      bool   // the last byte was a carriage return
	last    bool   // the last event is over
}

// maxLine is how many bytes of a line are kept to see what field it is, and how many of an event may be held.
const (
	maxLine = 512
	maxHeld = 256 << 10
)

func newEventReader(d dialect, a *answer) *eventReader {
	return &eventReader{d: d, a: a, data: newScanner(d.event), empty: true}
}

// write takes bytes, and returns how many of them belong to events that are over. It stops at the end of the last
// event, whose beginning start says: negative where it is in an earlier chunk.
func (r *eventReader) write(p []byte) (over int) {
	for i := 0; i < len(p); {
		if r.last {
			return over
		}
		if r.cr { // a line ends by CR, LF, or both
			r.cr = false
			if p[i] == '\n' {
				i++
				if r.empty && len(r.line) == 0 {
					over = i
				}
				continue
			}
		}
		end := bytes.IndexAny(p[i:], "\r\n")
		if end < 0 {
			r.add(p[i:])
			return over
		}
		r.add(p[i : i+end])
		r.cr = p[i+end] == '\r'
		i += end + 1
		if r.endLine() {
			if r.last {
				return over
			}
			over = i
		}
	}
	return over
}

// add takes a part of a line.
func (r *eventReader) add(p []byte) {
	if !r.partial {
		n := min(len(p), maxLine-len(r.line))
		r.line = append(r.line, p[:n]...)
		p = p[n:]
		if len(r.line) == maxLine && bytes.HasPrefix(r.line, []byte("data:")) {
			r.take(r.line[len("data:"):])
			r.partial = true
		}
	}
	if r.partial {
		r.take(p)
	}
}

// take gives data to the scanner.
func (r *eventReader) take(p []byte) {
	r.head = append(r.head, p[:min(len(p), 16-min(len(r.head), 16))]...)
	r.data.write(p)
}

// endLine takes a whole line, and reports whether it ended an event.
func (r *eventReader) endLine() (ended bool) {
	line := r.line
	partial := r.partial
	r.line, r.partial = r.line[:0], false
	if partial {
		r.data.write([]byte("\n"))
		r.empty = false
		return false
	}
	if len(line) == 0 {
		r.endEvent()
		return true
	}
	r.empty = false
	switch field, value, _ := bytes.Cut(line, []byte(":")); string(field) {
	case "event":
		r.name = string(bytes.TrimPrefix(value, []byte(" ")))
	case "data":
		r.take(value)
		r.data.write([]byte("\n"))
	}
	return false
}

// endEvent takes the event that is over.
func (r *eventReader) endEvent() {
	if !r.empty {
		if string(bytes.TrimSpace(r.head)) == "[DONE]" {
			r.last = true
		} else if len(r.head) > 0 {
			if !r.data.ended() {
				r.a.unread++
			}
			r.last = r.d.readEvent(r.a, r.name, r.data)
		}
		r.a.finished = r.a.finished || r.last
	}
	r.data.reset()
	r.name, r.head, r.empty = "", r.head[:0], true
}
