// Package pgtext makes texts such as PostgreSQL's text type holds: UTF-8 without NUL, and no longer than a limit, with
// a mark that says what was cut. It knows nothing else of ours.
package pgtext

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Holds reports whether PostgreSQL's text can hold s.
func Holds(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// Clean returns s with U+FFFD for what PostgreSQL's text can't hold.
func Clean(s string) string {
	if Holds(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// Head returns the beginning of s in at most limit bytes, between two characters.
func Head(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// Mark returns what stands in place of the rest of s where it is cut: its length in bytes and its SHA-256.
func Mark(s string) string {
	return fmt.Sprintf("… [cut: %d bytes, sha256 %x]", len(s), sha256.Sum256([]byte(s)))
}

// Cut returns s, or its head and a mark, in at most limit bytes together.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	mark := Mark(s)
	return Head(s, limit-len(mark)) + mark
}
