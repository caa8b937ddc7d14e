package notary

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
)

// ClockSlack is by how much the database's clock and the notary's may differ before a time counts as false.
const ClockSlack = 10 * time.Second

// epochMark is a round of which the super-log's head tells: when it was, up to where it had put seals in order, and in
// which transaction it did. Transaction ids are issued in order, so what a later transaction sealed was recorded later.
type epochMark struct {
	at    time.Time
	epoch int16  // of the cluster in which it was
	xid   uint64 // 0: a head from before this was kept
	last  resumePoint
}

const markColumns = `h.at, h.segment, coalesce(h.own_xid, '0')::text::bigint, h.xid::text::bigint, h.event_id`

func scanMark(row pgx.CollectableRow) (m epochMark, err error) {
	var own, xid int64
	err = row.Scan(&m.at, &m.last.segment, &own, &xid, &m.last.id)
	m.xid, m.last.xid, m.epoch = uint64(own), uint64(xid), int16((m.last.segment+1)/2)
	return m, err
}

// keptMarks is of how many rounds a notary knows: whoever seals now began after most of them.
const keptMarks = 1024

// readLastMarks are the newest rounds, the oldest of them first.
func readLastMarks(ctx context.Context, tx pgx.Tx) ([]epochMark, error) {
	rows, err := tx.Query(ctx,
		`SELECT * FROM (SELECT `+markColumns+` FROM audit_heads h WHERE h.tenant_id = $1 AND h.own_xid IS NOT NULL
	   ORDER BY h.size DESC LIMIT $2) m ORDER BY 1`, Operator, keptMarks)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanMark)
}

// markPause is how far apart the rounds are that a verification keeps of a long history.
const markPause = ClockSlack

// readMarks are the rounds of the whole history, some seconds apart, the oldest first.
func readMarks(ctx context.Context, tx pgx.Tx) (all []epochMark, err error) {
	rows, err := tx.Query(ctx, `SELECT `+markColumns+` FROM audit_heads h WHERE h.tenant_id = $1 ORDER BY h.size`,
		Operator)
	if err != nil {
		return nil, err
	}
	var last epochMark
	if _, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		m, err := scanMark(row)
		if err == nil && (len(all) == 0 || m.at.Sub(all[len(all)-1].at) >= markPause) {
			all = append(all, m)
		}
		last = m
		return struct{}{}, err
	}); err != nil {
		return nil, err
	}
	if len(all) > 0 && all[len(all)-1] != last {
		all = append(all, last)
	}
	return all, nil
}

// marksBefore is when a round was that had ended before a seal's transaction began; zero where none is known.
func marksBefore(marks []epochMark, epoch int16, xid uint64) time.Time {
	i := sort.Search(len(marks), func(i int) bool {
		m := &marks[i]
		return m.epoch > epoch || m.epoch == epoch && m.xid >= xid
	})
	for i--; i >= 0; i-- {
		if m := &marks[i]; m.epoch != epoch {
			break
		} else if m.xid != 0 {
			return m.at
		}
	}
	return time.Time{}
}

// marksOrdered is when the round was that put a place in order, or up to markPause later; zero for one that waits.
func marksOrdered(marks []epochMark, p resumePoint) time.Time {
	i := sort.Search(len(marks), func(i int) bool { return !p.after(marks[i].last) })
	if i == len(marks) {
		return time.Time{}
	}
	return marks[i].at
}

// misdatedEvents says what is false about the time that a seal claims; now is when it was put in order, or is looked
// at.
func misdatedEvents(marks []epochMark, s *audit.SealedEvent, now time.Time) string {
	at := s.RecordedAt.Time()
	if now.Add(ClockSlack).Before(at) {
		return fmt.Sprintf("says that it was recorded at %s, which was not yet at %s", at.Format(time.RFC3339Nano),
			now.UTC().Format(time.RFC3339Nano))
	}
	if b := marksBefore(marks, s.Epoch, s.XID); at.Add(ClockSlack).Before(b) {
		return fmt.Sprintf("says that it was recorded at %s, and the transaction that sealed it began after the "+
			"log's checkpoint of %s: it was back-dated",
			at.Format(time.RFC3339Nano), b.UTC().Format(time.RFC3339Nano))
	}
	return ""
}

// adoption is between when a tenant's rows from before sealing were sealed.
type adoption struct{ from, to time.Time }

// adoptionRanges are those of all tenants; one in progress has no end.
func adoptionRanges(ctx context.Context, tx pgx.Tx) (map[uuid.UUID]adoption, error) {
	rows, err := tx.Query(ctx, `SELECT tenant_id, started_at, coalesce(finished_at, '9999-01-01') FROM audit_adoptions`)
	if err != nil {
		return nil, err
	}
	all := map[uuid.UUID]adoption{}
	var tenant uuid.UUID
	var a adoption
	_, err = pgx.ForEachRow(rows, []any{&tenant, &a.from, &a.to}, func() error { all[tenant] = a; return nil })
	return all, err
}

// checkAdopted says why a seal can't be one of an adoption's; empty where it can.
func checkAdopted(all map[uuid.UUID]adoption, s *audit.SealedEvent) string {
	at := s.RecordedAt.Time()
	switch a, there := all[s.TenantID]; {
	case !there:
		return "says that it was sealed on adoption, and its tenant was never adopted"
	case at.Add(ClockSlack).Before(a.from) || a.to.Add(ClockSlack).Before(at):
		return fmt.Sprintf("says that it was sealed on adoption, at %s, and its tenant's was from %s to %s",
			at.Format(time.RFC3339), a.from.UTC().Format(time.RFC3339), a.to.UTC().Format(time.RFC3339))
	}
	return ""
}
