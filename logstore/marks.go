package logstore

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ClockSlack is the tolerated difference between the database's clock and the notary's.
const ClockSlack = 10 * time.Second

// RoundMark is a round of the notary, from a head of the super-log: its time, its transaction, and the position up to
// which it had sequenced seals. Transaction ids are issued in order, so a later transaction sealed later.
type RoundMark struct {
	At    time.Time
	Epoch int16  // of the round's cluster
	XID   uint64 // 0: the head is from before this was stored
	Last  Position
}

const markColumns = `h.at, h.segment, coalesce(h.own_xid, '0')::text::bigint, h.xid::text::bigint, h.event_id`

func scanMark(row pgx.CollectableRow) (m RoundMark, err error) {
	var own, xid int64
	err = row.Scan(&m.At, &m.Last.Segment, &own, &xid, &m.Last.ID)
	m.XID, m.Last.XID, m.Epoch = uint64(own), uint64(xid), int16((m.Last.Segment+1)/2)
	return m, err
}

// KeptMarks is the number of rounds that a notary keeps in memory: most of them ended before a transaction that seals
// now began.
const KeptMarks = 1024

// ReadLastMarks returns the newest KeptMarks rounds, the oldest of them first: in the order of their transactions,
// which is not that of their times when the clock stepped back.
func ReadLastMarks(ctx context.Context, tx pgx.Tx) ([]RoundMark, error) {
	rows, err := tx.Query(ctx,
		`SELECT `+markColumns+` FROM audit_heads h WHERE h.tenant_id = $1 AND h.own_xid IS NOT NULL
	   ORDER BY h.size DESC LIMIT $2`, Operator, KeptMarks)
	if err != nil {
		return nil, err
	}
	marks, err := pgx.CollectRows(rows, scanMark)
	slices.Reverse(marks)
	return marks, err
}

// markPause is the least time between two rounds that ReadMarks returns.
const markPause = ClockSlack

// ReadMarks returns rounds of the whole history, at least ClockSlack apart by their clock and the oldest first, and the
// last one.
func ReadMarks(ctx context.Context, tx pgx.Tx) (all []RoundMark, err error) {
	rows, err := tx.Query(ctx, `SELECT `+markColumns+` FROM audit_heads h WHERE h.tenant_id = $1 ORDER BY h.size`,
		Operator)
	if err != nil {
		return nil, err
	}
	var last RoundMark
	if _, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		m, err := scanMark(row)
		if err == nil && (len(all) == 0 || m.At.Sub(all[len(all)-1].At).Abs() >= markPause) {
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

// endedBefore returns the time of the last known round that ended before a seal's transaction began, or zero.
func endedBefore(marks []RoundMark, epoch int16, xid uint64) time.Time {
	i := sort.Search(len(marks), func(i int) bool {
		m := &marks[i]
		return m.Epoch > epoch || m.Epoch == epoch && m.XID >= xid
	})
	for i--; i >= 0; i-- {
		if m := &marks[i]; m.Epoch != epoch {
			break
		} else if m.XID != 0 {
			return m.At
		}
	}
	return time.Time{}
}

// EnteredAt returns when a position entered its log, up to ClockSlack too late; zero if it has not.
func EnteredAt(marks []RoundMark, p Position) time.Time {
	i := sort.Search(len(marks), func(i int) bool { return !p.After(marks[i].Last) })
	if i == len(marks) {
		return time.Time{}
	}
	return marks[i].At
}

// CheckDate returns why a seal's time can't be true, or the empty string. now is when the seal entered its log, or the
// time of the verification.
func CheckDate(marks []RoundMark, s *SealedEvent, now time.Time) string {
	at := s.RecordedAt.Time()
	if now.Add(ClockSlack).Before(at) {
		return fmt.Sprintf("says that it was recorded at %s, which was not yet at %s", at.Format(time.RFC3339Nano),
			now.UTC().Format(time.RFC3339Nano))
	}
	if b := endedBefore(marks, s.Epoch, s.XID); at.Add(ClockSlack).Before(b) {
		return fmt.Sprintf("says that it was recorded at %s, and the transaction that sealed it began after the "+
			"log's checkpoint of %s: it was back-dated",
			at.Format(time.RFC3339Nano), b.UTC().Format(time.RFC3339Nano))
	}
	return ""
}

// Adoption is the period in which a tenant's events from before sealing were sealed.
type Adoption struct{ From, To time.Time }

// ReadAdoptions returns the adoptions of all tenants; one in progress ends in the year 9999.
func ReadAdoptions(ctx context.Context, tx pgx.Tx) (map[uuid.UUID]Adoption, error) {
	rows, err := tx.Query(ctx, `SELECT tenant_id, started_at, coalesce(finished_at, '9999-01-01') FROM audit_adoptions`)
	if err != nil {
		return nil, err
	}
	all := map[uuid.UUID]Adoption{}
	var tenant uuid.UUID
	var a Adoption
	_, err = pgx.ForEachRow(rows, []any{&tenant, &a.From, &a.To}, func() error { all[tenant] = a; return nil })
	return all, err
}

// CheckAdoption returns why a seal can't be from its tenant's adoption, or the empty string.
func CheckAdoption(all map[uuid.UUID]Adoption, s *SealedEvent) string {
	at := s.RecordedAt.Time()
	switch a, there := all[s.TenantID]; {
	case !there:
		return "says that it was sealed on adoption, and its tenant was never adopted"
	case at.Add(ClockSlack).Before(a.From) || a.To.Add(ClockSlack).Before(at):
		return fmt.Sprintf("says that it was sealed on adoption, at %s, and its tenant's was from %s to %s",
			at.Format(time.RFC3339), a.From.UTC().Format(time.RFC3339), a.To.UTC().Format(time.RFC3339))
	}
	return ""
}
