package access

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestWhoComesAgainWhenToldFindsRoom: many that are turned away at once are each told another time, and each finds
// room then.
func TestWhoComesAgainWhenToldFindsRoom(t *testing.T) {
	const n, many = 30 << 20, 40
	now := time.Unix(1_800_000_000, 0)
	m := &tenantMeter{limits: Limits{BytesPerSecond: 100 << 20}, credentials: map[uuid.UUID]*[meterKinds]*tokenBucket{}}
	for k := range m.tenant {
		m.tenant[k] = bucket(m.limits.limit(Resource(k)), 1)
	}
	ask := func(at time.Time) (time.Duration, bool) {
		err := m.take(uuid.UUID{1}, Bytes, n, "bytes", at)
		if err == nil {
			return 0, true
		}
		return err.(*LimitError).RetryAfter, false
	}
	var told []time.Duration
	for range many {
		if after, ok := ask(now); !ok {
			told = append(told, after)
		}
	}
	if len(told) < many/2 {
		t.Fatalf("%d of %d were turned away", len(told), many)
	}
	slices.Sort(told)
	late := 0
	for i, after := range told {
		if after == maxWait { // nobody is told a later time
			late++
			continue
		}
		if i > 0 && after == told[i-1] {
			t.Errorf("two are told %v", after)
		}
		if again, ok := ask(now.Add(after)); !ok {
			t.Errorf("who was told %v is told %v then", after, again)
		}
	}
	if late > many/4 {
		t.Errorf("%d are told the latest time", late)
	}
	// What was promised and not taken up holds nobody up.
	if _, ok := ask(now.Add(time.Hour)); !ok {
		t.Error("there is no room an hour later")
	}
}
