package audit

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/tenantdb"
)

// dailyRow has the statistics of the events of one day, agent, model and action.
type dailyRow struct {
	day                                       *time.Time
	agent                                     *uuid.UUID
	model                                     *string
	action                                    string
	events, errors, inputTokens, outputTokens int64
	latencies                                 []int32  // ascending
	cost                                      *float64 // of a run's event
}

// dailyStats reads daily statistics. Whole past days are computed once and cached in audit_days; other days are
// computed from their events.
type dailyStats struct {
	door   *tenantdb.Door
	tenant uuid.UUID
	each   func(*dailyRow)
}

const (
	cacheThreshold    = 2000 // events in days not yet cached; fewer are read again each time
	maxConcurrentDays = 31   // days cached in one transaction, for which compliance acts wait
	maxDays           = 4000 // days of one query that are cached; a trail with scattered times may have more
)

// read calls each with every row of the events in [since, until). A zero time means no bound.
func (d *dailyStats) read(ctx context.Context, since, until time.Time) error {
	from, to := wholeDays(since, until, time.Now())
	if !from.Before(to) {
		return d.computeDirect(ctx, since, until)
	}
	counts, err := d.count(ctx, from, to)
	if err != nil {
		return err
	}
	if len(counts) > maxDays {
		return d.computeDirect(ctx, since, until)
	}
	if err := d.readCached(ctx, from, to, counts); err != nil {
		return err
	}
	if err := d.computeMissing(ctx, counts); err != nil {
		return err
	}
	if since.IsZero() || since.Before(from) { // events before the first whole day
		if err := d.computeDirect(ctx, since, from); err != nil {
			return err
		}
	}
	if !until.IsZero() && !until.After(to) { // no events after the last whole day
		return nil
	}
	return d.computeDirect(ctx, to, until)
}

// firstDay is the first day that is cached; no agent worked before it.
var firstDay = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)

// wholeDays returns the whole past days in [since, until): the first day, and the day after the last one.
func wholeDays(since, until, now time.Time) (from, to time.Time) {
	const day = 24 * time.Hour
	from, to = firstDay, now.UTC().Truncate(day)
	if !since.IsZero() {
		if from = since.UTC().Truncate(day); from.Before(since) {
			from = from.Add(day)
		}
	}
	if !until.IsZero() && until.Before(to) {
		to = until.UTC().Truncate(day)
	}
	return from, to
}

// count returns how many events each day has. It reads only the index.
func (d *dailyStats) count(ctx context.Context, from, to time.Time) (map[time.Time]int64, error) {
	counts := map[time.Time]int64{}
	var day time.Time
	var n int64
	err := d.door.Query(ctx, d.tenant, `SELECT (created_at AT TIME ZONE 'UTC')::date, count(*) FROM audit_events
		WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 GROUP BY 1`,
		[]any{d.tenant, from, to}, func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&day, &n}, func() error { counts[day] = n; return nil })
			return err
		})
	return counts, err
}

const dailyColumns = `day, agent_id, model, action_type, events, errors, input_tokens, output_tokens, latencies`

// readCached passes on the cached days that still have as many events as when they were cached, and deletes them from
// counts.
func (d *dailyStats) readCached(ctx context.Context, from, to time.Time, counts map[time.Time]int64) error {
	var parts []dailyRow // rows of one day
	pass := func() {
		n := int64(0)
		for i := range parts {
			n += parts[i].events
		}
		if len(parts) > 0 && counts[*parts[0].day] == n {
			delete(counts, *parts[0].day)
			for i := range parts {
				d.each(&parts[i])
			}
		}
		parts = parts[:0]
	}
	err := d.readDay(ctx,
		`SELECT `+dailyColumns+` FROM audit_days WHERE tenant_id = $1 AND day >= $2 AND day < $3 ORDER BY day, part`,
		[]any{d.tenant, from, to}, func(p dailyRow) {
			if len(parts) > 0 && !parts[0].day.Equal(*p.day) {
				pass()
			}
			parts = append(parts, p)
		})
	pass()
	return err
}

// computeMissing passes on the days left in counts. It caches them first if they have enough events.
func (d *dailyStats) computeMissing(ctx context.Context, counts map[time.Time]int64) error {
	var left []time.Time
	var events int64
	for day, n := range counts {
		left, events = append(left, day), events+n
	}
	slices.SortFunc(left, time.Time.Compare)
	if events >= cacheThreshold {
		for some := range slices.Chunk(left, maxConcurrentDays) {
			err := d.door.Tx(ctx, d.tenant, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `SELECT audit_count_days($1)`, some)
				return err
			})
			if readOnly(err) {
				break
			}
			if err != nil {
				return err
			}
			if err := d.readCached(ctx, some[0], some[len(some)-1].AddDate(0, 0, 1), counts); err != nil {
				return err
			}
		}
	}
	// Too few events to cache, or events were logged meanwhile.
	left = slices.DeleteFunc(left, func(day time.Time) bool { _, there := counts[day]; return !there })
	if len(left) == 0 {
		return nil
	}
	return d.readDay(ctx, `SELECT f.* FROM unnest($1::date[]) u
		CROSS JOIN LATERAL audit_figures(u::timestamp AT TIME ZONE 'UTC',
		(u::timestamp + interval '1 day' - interval '1 microsecond') AT TIME ZONE 'UTC') f`,
		[]any{left}, func(p dailyRow) { d.each(&p) })
}

// readOnly reports whether an error says that the database is read-only: a standby.
func readOnly(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "25006"
}

// computeDirect computes the rows of [since, until) from the events.
func (d *dailyStats) computeDirect(ctx context.Context, since, until time.Time) error {
	if !until.IsZero() {
		// audit_figures includes its upper bound: the last microsecond before until
		until = until.Add(-time.Nanosecond).Truncate(time.Microsecond)
	}
	return d.readDay(ctx, `SELECT * FROM audit_figures($1, $2)`, []any{timeOrNil(since), timeOrNil(until)},
		func(p dailyRow) {
			d.each(&p)
		})
}

func (d *dailyStats) readDay(ctx context.Context, sql string, args []any, each func(dailyRow)) error {
	return d.door.Query(ctx, d.tenant, sql, args, func(rows pgx.Rows) error {
		defer rows.Close()
		for rows.Next() {
			var p dailyRow
			if err := rows.Scan(&p.day, &p.agent, &p.model, &p.action, &p.events, &p.errors, &p.inputTokens,
				&p.outputTokens, &p.latencies); err != nil {
				return err
			}
			each(p)
		}
		return rows.Err()
	})
}
