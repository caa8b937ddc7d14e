package mcpproxy

import (
	"bytes"
	"context"
	"fmt"
)

// maxEvent is the largest server-sent event or JSON response, in bytes, that is held in memory until it is recorded: a
// service has a thousand streams at a time. A longer one passes in pieces; the trail keeps its beginning only anyway.
const maxEvent = 128 << 10

// eventRelay passes a stream of server-sent events byte for byte (the WHATWG's HTML standard, 9.2). A client reads an
// event once it has its last line break, which waits until the event's calls are recorded.
type eventRelay struct {
	session *Session
	send    func([]byte) error // writes to the client at once

	raw   []byte // of the event, not sent yet
	line  []byte // the line so far; of a long event its first bytes
	data  []byte
	some  bool       // the event has data
	long  *longFrame // of an event that is too long to hold
	isCR  bool       // the last byte was a carriage return
	begun bool       // the stream's first line was read
}

// write takes the next bytes of the stream.
func (e *eventRelay) write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		if e.isCR && p[0] == '\n' { // the rest of a line break
			e.isCR, e.raw, p = false, append(e.raw, p[0]), p[1:]
			continue
		}
		e.isCR = false
		end := bytes.IndexAny(p, "\r\n")
		part := p
		if end >= 0 {
			part = p[:end]
		}
		e.take(part)
		if p = p[len(part):]; end < 0 {
			break
		}
		e.isCR = p[0] == '\r'
		if err := e.endLine(ctx, p[0]); err != nil {
			return err
		}
		p = p[1:]
	}
	if e.long != nil || !e.some && !mayBeData(e.line) {
		return e.flush() // a comment, or a part of a long event
	}
	if len(e.raw) > maxEvent {
		return e.grow()
	}
	return nil
}

// take adds a part of a line.
func (e *eventRelay) take(part []byte) {
	e.raw = append(e.raw, part...)
	if e.long == nil {
		e.line = append(e.line, part...)
		return
	}
	for len(e.line) < len("data: ") && len(part) > 0 { // of a long event, what follows goes on to the frame
		e.line, part = append(e.line, part[0]), part[1:]
		if len(e.line) == len("data: ") && e.line[5] != ' ' && bytes.HasPrefix(e.line, []byte("data:")) {
			_, _ = e.long.Write(e.line[5:])
		}
	}
	if bytes.HasPrefix(e.line, []byte("data:")) {
		_, _ = e.long.Write(part)
	}
}

// mayBeData reports whether a line, as far as it is known, is or becomes a data line.
func mayBeData(line []byte) bool {
	n := min(len(line), len("data"))
	return n > 0 && string(line[:n]) == "data"[:n]
}

// grow begins to pass an event in pieces.
func (e *eventRelay) grow() error {
	e.long = newLongFrame()
	_, _ = e.long.Write(e.data)
	if value, ok := dataOf(e.line); ok {
		_, _ = e.long.Write(value)
	}
	e.line = e.line[:min(len(e.line), len("data: "))]
	e.data = nil
	return e.flush()
}

// dataOf returns the value of a data line.
func dataOf(line []byte) ([]byte, bool) {
	value, ok := bytes.CutPrefix(line, []byte("data"))
	if !ok || len(value) > 0 && value[0] != ':' {
		return nil, false
	}
	return bytes.TrimPrefix(bytes.TrimPrefix(value, []byte(":")), []byte(" ")), true
}

// endLine ends a line with a line break, and the event if the line is empty.
func (e *eventRelay) endLine(ctx context.Context, end byte) error {
	if !e.begun {
		e.begun, e.line = true, bytes.TrimPrefix(e.line, []byte("\ufeff"))
	}
	if len(e.line) > 0 {
		if value, ok := dataOf(e.line); ok && e.long == nil {
			if e.some {
				e.data = append(e.data, '\n')
			}
			e.data, e.some = append(e.data, value...), true
		}
		if e.long != nil {
			_, _ = e.long.Write([]byte{'\n'})
		}
		e.line, e.raw = e.line[:0], append(e.raw, end)
		return nil
	}
	if err := e.endEvent(ctx); err != nil {
		return err
	}
	e.raw = append(e.raw, end)
	return e.flush()
}

// endEvent records what the event says. If it can't be recorded, another event takes its place.
func (e *eventRelay) endEvent(ctx context.Context) error {
	data, long := e.data, e.long
	e.data, e.some, e.long = nil, false, nil
	switch {
	case long != nil:
		if record := e.session.longFromServer(long); record != nil {
			if err := record(ctx); err != nil {
				return fmt.Errorf("a result could not be recorded, and is withheld: %w", err)
			}
		}
	case len(data) > 0:
		if record := e.session.FromServer(data); record != nil {
			if instead := record(ctx); instead != nil {
				e.raw = append(append(e.raw[:0], "event: message\ndata: "...), instead...)
				e.raw = append(e.raw, '\n')
			}
		}
	}
	return nil
}

// close passes what is left at the stream's end. Some clients read an event that has no last line break.
func (e *eventRelay) close(ctx context.Context) error {
	if len(e.line) > 0 {
		if value, ok := dataOf(e.line); ok && e.long == nil {
			e.data, e.line = append(e.data, value...), e.line[:0]
		}
	}
	if err := e.endEvent(ctx); err != nil {
		return err
	}
	return e.flush()
}

func (e *eventRelay) flush() error {
	if len(e.raw) == 0 {
		return nil
	}
	err := e.send(e.raw)
	if e.raw = e.raw[:0]; cap(e.raw) > maxEvent {
		e.raw = nil
	}
	return err
}

// dataEvent is a frame as a server-sent event. A frame with line breaks has a data line for each of its lines.
func dataEvent(frame []byte) []byte {
	frame = bytes.TrimRight(frame, "\r\n")
	out := []byte("event: message\n")
	for line := range bytes.SplitSeq(frame, []byte("\n")) {
		out = append(append(append(out, "data: "...), bytes.TrimSuffix(line, []byte("\r"))...), '\n')
	}
	return append(out, '\n')
}
