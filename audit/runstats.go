package audit

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

//go:embed sql/run_stats.sql
var runStatsSQL string

// maxRunStats is how many events of a run are counted; a longer one is refused, since its sums would be too small.
const maxRunStats = 1_000_000

// runRow is what statistics need of an event of a run.
type runRow struct {
	id           uuid.UUID
	row          dailyRow
	latency      *int32
	failed       bool
	cost         *float64
	completes    *uuid.UUID // the event of which this is a further report
	reportedCost *float64   // of that report
}

// readRun calls each with every event of a run in [since, until). A zero time means no bound.
func (d *dailyStats) readRun(ctx context.Context, run string, since, until time.Time) error {
	if err := checkText("run", run, MaxName); err != nil {
		return err
	}
	known, err := runEvents(ctx, d.door, d.tenant, run) // its traces, and calls that others reported first
	if err != nil {
		return err
	}
	names := append([]string{run}, tracesOf(known, run)...)
	var rows []runRow
	err = d.door.Query(ctx, d.tenant, runStatsSQL, []any{d.tenant, names, maxRunStats + 1, completedByOthers(known),
		timeOrNil(since), timeOrNil(until)}, func(found pgx.Rows) error {
		rows, err = pgx.CollectRows(found, scanRunRow)
		return err
	})
	if err != nil {
		return fmt.Errorf("audit: count the events of run %.80q: %w", run, err)
	}
	if len(rows) > maxRunStats {
		return &FieldError{"run", fmt.Sprintf("has more than %d events: give a time too", maxRunStats)}
	}
	costs := reportedCosts(rows)
	for i := range rows {
		r := &rows[i]
		r.row.events = 1
		if r.failed {
			r.row.errors = 1
		}
		if r.latency != nil {
			r.row.latencies = []int32{*r.latency}
		}
		if cost, there := costs[r.id]; there {
			r.row.cost = &cost
		}
		d.each(&r.row)
	}
	return nil
}

func scanRunRow(row pgx.CollectableRow) (r runRow, err error) {
	err = row.Scan(&r.id, &r.row.day, &r.row.agent, &r.row.model, &r.row.action, &r.failed, &r.row.inputTokens,
		&r.row.outputTokens, &r.latency, &r.cost, &r.completes, &r.reportedCost)
	return r, err
}

// reportedCosts returns what events say that they cost. Where an event does not say it, a further report of it may.
func reportedCosts(rows []runRow) map[uuid.UUID]float64 {
	costs := map[uuid.UUID]float64{}
	for i := range rows {
		if r := &rows[i]; r.completes != nil && r.reportedCost != nil {
			costs[*r.completes] = *r.reportedCost
		}
	}
	for i := range rows {
		if r := &rows[i]; r.cost != nil {
			costs[r.id] = *r.cost
		}
	}
	return costs
}
