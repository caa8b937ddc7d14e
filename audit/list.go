package audit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/tenantdb"
)

// ErrNotFound is returned if the tenant has no such event.
var ErrNotFound = errors.New("no such event of this tenant")

// ErrNoRun is returned if no event of the tenant names a run; it is an ErrNotFound.
var ErrNoRun error = runNotFound{}

type runNotFound struct{}

func (runNotFound) Error() string {
	return "no event of this tenant names this run: events do so in their metadata, as gen_ai.conversation.id or " +
		"trace_id"
}

// Is reports that a runNotFound is an ErrNotFound.
func (runNotFound) Is(target error) bool { return target == ErrNotFound }

// StoredEvent is an event as it is stored, with its seal.
type StoredEvent struct {
	ID        uuid.UUID       `json:"id"`
	AgentID   *uuid.UUID      `json:"agent_id,omitempty"`
	UserID    *string         `json:"user_id,omitempty"`
	Action    string          `json:"action_type"`
	Input     *string         `json:"input_summary,omitempty"`
	Output    *string         `json:"output_summary,omitempty"`
	LatencyMS *int32          `json:"latency_ms,omitempty"`
	Metadata  json.RawMessage `json:"metadata"`
	// CreatedAt is when the event happened, by its writer; clamped to the years 1 to 9999.
	CreatedAt  time.Time  `json:"created_at"`
	RecordedAt *time.Time `json:"recorded_at,omitempty"` // of the seal, by the database's clock; nil: not sealed yet
	// Adopted is true if the event was sealed when the database was adopted, not when it was written.
	Adopted  bool     `json:"adopted,omitempty"`
	LeafHash string   `json:"leaf_hash,omitempty"` // in hex
	Erased   []string `json:"erased,omitempty"`    // columns whose content was erased
	// Cursor is the position of this event in lists; see Filter.After.
	Cursor string `json:"cursor"`
}

// Filter selects events; zero fields don't filter.
type Filter struct {
	Since, Until time.Time // of created_at: from, inclusive; until, exclusive
	AgentID      uuid.UUID
	UserID       string
	Action       string
	// Metadata is an object that the event's metadata must contain, by PostgreSQL's @>.
	Metadata Metadata
	After    string // a Cursor: only events after it in the list
	Limit    int    // 50 when zero, at most MaxList
}

// MaxList is how many events one List returns at most.
const MaxList = 1000

// The events are selected before the join with their seals. Events of a batch share a created_at; sorted after the
// join, a page of 50 would look up a thousand seals.
const (
	storedSQL = `
SELECT e.id, e.agent_id, e.user_id, e.action_type, e.input_summary, e.output_summary, e.latency_ms, e.metadata,
       e.created_at, s.recorded_at, s.mode = 1, s.leaf_hash,
       ARRAY(SELECT x.field FROM audit_erasures x WHERE x.tenant_id = e.tenant_id AND x.event_id = e.id ORDER BY 1)
  FROM (SELECT * FROM audit_events e WHERE e.tenant_id = $1`
	sealsSQL         = `) e LEFT JOIN audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id`
	orderNewestFirst = " ORDER BY e.created_at DESC, e.id DESC"
)

// List returns the tenant's events that match the filter, newest first by created_at. Pages stay correct while events
// are written: each page begins after the last one's cursor.
func List(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, f Filter) (events []StoredEvent, err error) {
	sql, args, err := f.sql(tenant)
	if err != nil {
		return nil, err
	}
	err = door.Query(ctx, tenant, sql, args, func(rows pgx.Rows) error {
		events, err = pgx.CollectRows(rows, scanStored)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: list events: %w", err)
	}
	return events, nil
}

// Get returns one event of the tenant, or ErrNotFound.
func Get(ctx context.Context, door *tenantdb.Door, tenant, id uuid.UUID) (e StoredEvent, err error) {
	err = door.Query(ctx, tenant, storedSQL+` AND e.id = $2`+sealsSQL, []any{tenant, id}, func(rows pgx.Rows) error {
		e, err = pgx.CollectExactlyOneRow(rows, scanStored)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return e, fmt.Errorf("audit: event %s: %w", id, err)
	}
	return e, nil
}

// CountIDs returns how many of the ids are of events of the tenant.
func CountIDs(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID, ids []uuid.UUID) (n int, err error) {
	err = door.Query(ctx, tenant, `SELECT count(*) FROM audit_events WHERE tenant_id = $1 AND id = ANY($2)`,
		[]any{tenant, ids}, func(rows pgx.Rows) error {
			n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			return err
		})
	if err != nil {
		return 0, fmt.Errorf("audit: look for events: %w", err)
	}
	return n, nil
}

func (f Filter) sql(tenant uuid.UUID) (string, []any, error) {
	limit, err := listLimit(f.Limit)
	if err != nil {
		return "", nil, err
	}
	return f.query(tenant, limit, newestFirst)
}

// listLimit returns the limit of a list: the requested one, or 50 if it is zero.
func listLimit(asked int) (int, error) {
	if asked == 0 {
		asked = 50
	}
	if asked < 1 || asked > MaxList {
		return 0, &FieldError{"limit", fmt.Sprintf("%d is not between 1 and %d", asked, MaxList)}
	}
	return asked, nil
}

// page checks the parameters that all lists have: the time range, the limit and the cursor. at is nil without a cursor.
func page(since, until time.Time, asked int,
	after string) (limit int, at *pgtype.Timestamptz, id uuid.UUID, err error) {
	if limit, err = listLimit(asked); err == nil {
		err = inOrder(since, until)
	}
	if err != nil || after == "" {
		return limit, nil, id, err
	}
	at = new(pgtype.Timestamptz)
	*at, id, err = readCursor(after)
	return limit, at, id, err
}

// query returns the statement and its arguments for at most limit events in a direction.
func (f Filter) query(tenant uuid.UUID, limit int, d scanOrder) (string, []any, error) {
	if err := inOrder(f.Since, f.Until); err != nil {
		return "", nil, err
	}
	sql, args := storedSQL, []any{tenant}
	where := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		sql += " AND " + condition
	}
	if !f.Since.IsZero() {
		where("e.created_at >= ?", f.Since)
	}
	if !f.Until.IsZero() {
		where("e.created_at < ?", f.Until)
	}
	if f.AgentID != uuid.Nil {
		where("e.agent_id = ?", f.AgentID)
	}
	for _, t := range []struct{ field, column, value string }{{"user", "user_id", f.UserID},
		{"action", "action_type", f.Action}} {
		if t.value == "" {
			continue
		}
		if err := checkText(t.field, t.value, MaxName); err != nil {
			return "", nil, err
		}
		where("e."+t.column+" = ?", t.value)
	}
	if len(f.Metadata) > 0 {
		raw, err := json.Marshal(f.Metadata)
		if err == nil {
			err = checkMetadata(raw)
		}
		if err != nil {
			return "", nil, err
		}
		where("e.metadata @> ?::jsonb", raw)
	}
	if f.After != "" {
		at, id, err := readCursor(f.After)
		if err != nil {
			return "", nil, err
		}
		where("(e.created_at, e.id) "+d.beyond+" (?, ?)", at, id)
	}
	args = append(args, limit)
	return sql + d.order + " LIMIT $" + strconv.Itoa(len(args)) + sealsSQL + d.order, args, nil
}

func scanStored(row pgx.CollectableRow) (e StoredEvent, err error) {
	var at, recorded pgtype.Timestamptz
	var adopted *bool
	var leaf []byte
	var erased []int16
	if err := row.Scan(&e.ID, &e.AgentID, &e.UserID, &e.Action, &e.Input, &e.Output, &e.LatencyMS, &e.Metadata, &at,
		&recorded, &adopted, &leaf, &erased); err != nil {
		return e, err
	}
	e.CreatedAt, e.Cursor, e.LeafHash, e.Adopted = withinRange(at), cursor(at, e.ID), hex.EncodeToString(leaf),
		adopted != nil && *adopted
	for _, f := range erased {
		e.Erased = append(e.Erased, ledger.Field(f).String())
	}
	if recorded.Valid {
		t := withinRange(recorded)
		e.RecordedAt = &t
	}
	return e, nil
}

// withinRange clamps a time to the range of RFC 3339: PostgreSQL's timestamps reach further, to infinity.
func withinRange(t pgtype.Timestamptz) time.Time {
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	switch {
	case t.InfinityModifier == pgtype.Infinity || t.InfinityModifier == pgtype.Finite && t.Time.After(last):
		return last
	case t.InfinityModifier == pgtype.NegativeInfinity || t.Time.Before(first):
		return first
	}
	return t.Time.UTC()
}

func cursor(at pgtype.Timestamptz, id uuid.UUID) string {
	switch at.InfinityModifier {
	case pgtype.Infinity:
		return "inf_" + id.String()
	case pgtype.NegativeInfinity:
		return "-inf_" + id.String()
	}
	return strconv.FormatInt(at.Time.UnixMicro(), 10) + "_" + id.String()
}

// minMicros is PostgreSQL's least timestamp, 4713-11-24 BC, in Unix microseconds; its greatest is beyond an int64.
const minMicros = -210_866_803_200_000_000

func readCursor(s string) (at pgtype.Timestamptz, id uuid.UUID, err error) {
	when, which, _ := strings.Cut(s, "_")
	at.Valid = true
	switch when {
	case "inf":
		at.InfinityModifier = pgtype.Infinity
	case "-inf":
		at.InfinityModifier = pgtype.NegativeInfinity
	default:
		var micros int64
		if micros, err = strconv.ParseInt(when, 10, 64); err == nil {
			at.Time = time.UnixMicro(micros).UTC()
			if micros < minMicros {
				err = errors.New("it is before PostgreSQL's first time")
			}
		}
	}
	if err == nil {
		id, err = uuid.Parse(which)
	}
	if err != nil {
		return at, id, &FieldError{"after", fmt.Sprintf("%.80q is not a cursor: take one from a list's last event", s)}
	}
	return at, id, nil
}
