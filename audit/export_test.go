package audit

import (
	"time"

	"github.com/google/uuid"
)

// SetClock gives the trail's spool another clock.
func (t *Trail) SetClock(now func() time.Time) { t.spool.clock = now }

// Record and ReadRecord are how an event waits in the spool.
func (e Event) Record(tenant uuid.UUID) []byte      { return e.record(tenant) }
func ReadRecord(b []byte) (uuid.UUID, Event, error) { return readRecord(b) }

// SetRejectLimit bounds the refused events that the trail's spool keeps.
func (t *Trail) SetRejectLimit(bytes int64) {
	t.spool.rejected.mu.Lock()
	defer t.spool.rejected.mu.Unlock()
	t.spool.rejected.limit = bytes
}
