package mcpserver

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/google/uuid"
)

// cursor is a place in a list: behind an item, or behind a number of them. Clients get it encoded, and can't read
// anything from it that the list did not say.
type cursor struct {
	kind  byte // of the list
	after uuid.UUID
	count uint32
}

// The lists that have cursors.
const (
	documentList byte = 'd'
	timelineList byte = 't'
)

// cursorSize is the length of an encoded cursor.
const cursorSize = 28

// encode returns the cursor as clients get it.
func (c cursor) encode() string {
	raw := make([]byte, 0, 21)
	raw = append(append(raw, c.kind), c.after[:]...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, c.count))
}

// readCursor reads a cursor of a list; the empty one is the list's beginning.
func readCursor(s string, kind byte) (c cursor, err error) {
	c.kind = kind
	if s == "" {
		return c, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(s) != cursorSize || raw[0] != kind {
		return c, argument("cursor",
			"it is none of this list's: send the next_cursor of its last page, or leave it out")
	}
	copy(c.after[:], raw[1:17])
	c.count = binary.BigEndian.Uint32(raw[17:])
	return c, nil
}
