package pgtext_test

import (
	"strings"
	"testing"

	"github.com/konstruct/konstruct/pgtext"
)

// TestTextsAreWhatPostgreSQLHolds cleans and cuts texts of every kind, at every place.
func TestTextsAreWhatPostgreSQLHolds(t *testing.T) {
	for s, want := range map[string]string{"grüß": "grüß", "a\x00b": "a\ufffdb", "a\xff\xfeb": "a\ufffdb", "": ""} {
		if got := pgtext.Clean(s); got != want || pgtext.Holds(s) != (s == want) {
			t.Errorf("%q is cleaned to %q, and holds: %v", s, got, pgtext.Holds(s))
		}
	}
	long := strings.Repeat("aé🚰", 100)
	for limit := 120; limit <= len(long)+1; limit++ {
		got := pgtext.Cut(long, limit)
		if len(got) > limit || !pgtext.Holds(got) || (got == long) != (len(long) <= limit) ||
			got != long && (!strings.HasSuffix(got, pgtext.Mark(long)) || !strings.HasPrefix(long, got[:limit-110])) {
			t.Errorf("cut to %d: %d bytes, %q", limit, len(got), got)
		}
	}
	if got := pgtext.Head("é", 1); got != "" {
		t.Errorf("half a character is %q", got)
	}
}
