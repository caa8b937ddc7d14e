package testkit

import (
	"testing"
	"time"
)

// Until waits until something holds: for as long as the test itself may take, so that no outcome depends on how fast
// the machine is.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	var end time.Time
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if at, some := d.Deadline(); some {
			end = at.Add(-10 * time.Second) // in time to say what it waited for
		}
	}
	for begin := time.Now(); !holds(); time.Sleep(20 * time.Millisecond) {
		if !end.IsZero() && time.Now().After(end) {
			t.Fatalf("after %v: not %s", time.Since(begin).Round(time.Second), what)
		}
	}
}
