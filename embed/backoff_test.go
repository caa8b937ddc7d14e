package embed

import (
	"testing"
	"time"
)

// TestTheWaitDoublesUpToALimit however often it was tried.
func TestTheWaitDoublesUpToALimit(t *testing.T) {
	for try, want := range map[int]time.Duration{1: firstWait, 2: 2 * firstWait, 5: 16 * firstWait, 20: longestWait,
		36: longestWait, 1000: longestWait} {
		if got := backoff(try); got < want || got >= want+want/4 {
			t.Errorf("after %d tries: %s, want %s and up to a quarter more", try, got, want)
		}
	}
}
