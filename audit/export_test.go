package audit

import (
	"time"

	"github.com/google/uuid"
)

// SetClock replaces the clock of the trail's spool.
func (t *Trail) SetClock(now func() time.Time) { t.spool.clock = now }

// Record and ReadRecord encode and decode an event in the spool.
func (e Event) Record(tenant uuid.UUID) []byte      { return e.record(tenant) }
func ReadRecord(b []byte) (uuid.UUID, Event, error) { return readRecord(b) }

// SetRejectLimit sets the limit on refused events in the trail's spool, in bytes.
func (t *Trail) SetRejectLimit(bytes int64) {
	t.spool.rejected.mu.Lock()
	defer t.spool.rejected.mu.Unlock()
	t.spool.rejected.limit = bytes
}

// ModelUsageSQL is the query of ModelUsage, to be explained.
const ModelUsageSQL = modelUsageSQL
