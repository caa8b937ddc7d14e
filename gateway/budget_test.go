package gateway

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestSumsAreReadOnce: old events are summed once, new ones again, and this process's own calls count once, whenever
// they were logged.
func TestSumsAreReadOnce(t *testing.T) {
	tenant := uuid.New()
	trail, err := audit.OpenTrail(testkit.Door(t), audit.TrailConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	log := func() {
		t.Helper()
		e := audit.Event{Action: audit.ActionLLMCall, Metadata: []byte(`{"konstruct.gateway.tokens": 100}`)}
		if _, err := trail.Log(t.Context(), tenant, e.OfService()); err != nil {
			t.Fatal(err)
		}
	}
	a := &account{}
	now := time.Now()
	if untilTomorrow(now) < time.Hour {
		now = now.Add(-2 * time.Hour) // so that the day below is one
	}
	read := func(at time.Time, want int64) {
		t.Helper()
		if err := a.refresh(t.Context(), trail, tenant, at); err != nil || a.total().Tokens != want {
			t.Errorf("after %s: %d tokens, want %d, %v", at.Sub(now), a.total().Tokens, want, err)
		}
	}
	log()
	read(now, 100)
	log() // another process's
	read(now.Add(usageTTL/2), 100)
	read(now.Add(usageTTL), 200)
	c := &charge{a: a}
	log()
	c.logged(audit.ModelUsage{Calls: 1, Tokens: 100}) // ours, which counts at once
	read(now.Add(usageTTL+time.Millisecond), 300)
	read(now.Add(2*usageTTL), 300)
	for i := range 10 {
		read(now.Add(time.Duration(i+1)*time.Minute+2*usageTTL), 300)
	}
	if a.settled.Tokens != 300 || a.recent.Tokens != 0 || len(a.own) != 0 {
		t.Errorf("%+v %+v %d", a.settled, a.recent, len(a.own))
	}
	read(now.Add(24*time.Hour), 0) // a new day
}
