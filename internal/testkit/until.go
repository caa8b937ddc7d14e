package testkit

import (
	"testing"
	"time"
)

// Until waits until a condition holds, for as long as the test may run, so that no result depends on the machine's
// speed. what names the condition in the failure message.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	var end time.Time
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if at, some := d.Deadline(); some {
			end = at.Add(-10 * time.Second) // in time for the failure message
		}
	}
	for begin := time.Now(); !holds(); time.Sleep(20 * time.Millisecond) {
		if !end.IsZero() && time.Now().After(end) {
			t.Fatalf("after %v: not %s", time.Since(begin).Round(time.Second), what)
		}
	}
}
