package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/tenantdb"
)

// batch is the number of events in a batch.
const batch = 1000

func sample() audit.Event {
	return audit.Event{AgentID: tenant, UserID: "ada", Action: audit.ActionLLMCall,
		Input:   "What the agent was asked, in a sentence of the usual length for a summary.",
		Output:  "What it answered, in another such sentence, perhaps a little longer.",
		Latency: 1500 * time.Millisecond,
		Metadata: json.RawMessage(
			`{"gen_ai.request.model": "claude-opus-4-5", "gen_ai.usage.input_tokens": 812, ` +
				`"gen_ai.usage.output_tokens": 96}`)}
}

// seedConnections are the numbers of connections with which the seed's logger is measured; single events are compared
// with the fastest.
var seedConnections = []int{1, 2, 4, 8, 16}

// idleTurns is how often the alternatives for one caller are measured in turn.
const idleTurns = 10

// callers is the number of concurrent callers.
const callers = 64

// Audit measures appends against the seed's logger (one transaction and four round trips for each event, unsealed),
// against the same sealed multi-row insert by pgbench, and against unsealed COPY by a superuser.
func (b *Bench) Audit(ctx context.Context) (lines []Measurement, err error) {
	door, err := tenantdb.Open(ctx, b.url("konstruct_app"))
	if err != nil {
		return nil, err
	}
	defer door.Close()
	group := audit.NewGroup(door)
	defer group.Close()
	shared := func(int) error { _, err := group.Log(ctx, tenant, sample()); return err }
	one := func(int) error { _, err := audit.Log(ctx, door, tenant, sample()); return err }
	many := slices.Repeat([]audit.Event{sample()}, batch)
	batched := func(int) error { _, err := audit.LogBatch(ctx, door, tenant, many); return err }
	seedOne, done, err := b.seedWay(ctx, slices.Max(seedConnections))
	if err != nil {
		return nil, err
	}
	defer done()
	var base, best Measurement // the seed's way on one connection, and on the count that suits it best
	for _, n := range seedConnections {
		l, err := b.measure(ctx, fmt.Sprintf("the seed's way, %s", connections(n)), "events", n, 1, seedOne)
		if err != nil {
			return nil, err
		}
		if n == 1 {
			base = l
		}
		if l.Rate > best.Rate {
			best = l
		}
		lines = append(lines, l)
	}
	add := func(what string, workers, n int, against Measurement, do func(int) error) (Measurement, error) {
		l, err := b.measure(ctx, what, "events", workers, n, do)
		if err == nil {
			lines = append(lines, l.against(against))
		}
		return l, err
	}
	idle, err := b.alternateN(ctx, idleTurns, "events", 1, contender{base.What + ", in turns", 1, seedOne},
		contender{"sealed, a round trip each, in turns", 1, one},
		contender{"sealed, shared commits, 1 caller, in turns", 1, shared})
	if err != nil {
		return nil, err
	}
	lines = append(lines, idle[0], idle[1].against(idle[0]), idle[2].against(idle[0]))
	together, err := add(fmt.Sprintf("sealed, shared commits, %d callers", callers), callers, 1, best, shared)
	if err != nil {
		return nil, err
	}
	spooled, err := b.spool(ctx, door, together)
	if err != nil {
		return nil, err
	}
	lines = append(lines, spooled...)
	for _, n := range []int{1, 2} {
		read, err := b.pgbench(ctx, "simple", n)
		if err != nil {
			return nil, err
		}
		pg, err := b.pgbench(ctx, "prepared", n)
		if err != nil {
			return nil, err
		}
		lines = append(lines, read.against(pg), pg)
		if _, err := add("sealed, batches of 1,000, "+connections(n), n, batch, pg, batched); err != nil {
			return nil, err
		}
	}
	copied, err := b.copyIn(ctx)
	if err != nil {
		return nil, err
	}
	inBatches, many64 := lines[len(lines)-1], together
	inBatches.What += ", again"
	many64.What += ", again"
	return append(lines, copied, inBatches.against(copied), many64.against(inBatches)), nil
}

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// seedWay is the seed's logger: BEGIN, set the tenant, INSERT, COMMIT, each a round trip, in its own schema.
func (b *Bench) seedWay(ctx context.Context, workers int) (do func(int) error, done func(), err error) {
	conns := make([]*pgx.Conn, workers)
	done = func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close(context.WithoutCancel(ctx))
			}
		}
	}
	for i := range conns {
		if conns[i], err = pgx.Connect(ctx, b.url("konstruct_app")+"?search_path=seed"); err != nil {
			done()
			return nil, nil, err
		}
	}
	e := sample()
	return func(w int) error {
		tx, err := conns[w].Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		if _, err := tx.Exec(ctx, `SELECT set_config('app.current_tenant', $1, true)`, tenant.String()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx,
			`INSERT INTO audit_events (tenant_id, agent_id, user_id, action_type, input_summary, output_summary,
			latency_ms, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			tenant, e.AgentID, e.UserID, e.Action, e.Input, e.Output, e.Latency.Milliseconds(),
			e.Metadata); err != nil {
			return err
		}
		return tx.Commit(ctx)
	}, done, nil
}

// copyIn is an upper bound of what the server can do: COPY without seals as a superuser, who bypasses row-level
// security.
func (b *Bench) copyIn(ctx context.Context) (Measurement, error) {
	conn, err := pgx.Connect(ctx, b.Cluster.SuperuserURL(devpg.Database))
	if err != nil {
		return Measurement{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	e := sample()
	return b.measure(ctx, "unsealed COPY of 1,000 by a superuser", "events", 1, batch, func(int) error {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"seed", "audit_events"},
			[]string{"id", "tenant_id", "agent_id", "user_id", "action_type", "input_summary", "output_summary",
				"latency_ms", "metadata"},
			pgx.CopyFromSlice(batch, func(int) ([]any, error) {
				return []any{uuid.New(), tenant, e.AgentID, e.UserID, e.Action, e.Input, e.Output,
					int32(e.Latency.Milliseconds()), e.Metadata}, nil
			}))
		return err
	})
}

// reading measures how fast the same rows are read without further work.
func (b *Bench) reading(ctx context.Context, db *tenantdb.Evidence) (Measurement, error) {
	start, rows := time.Now(), int64(0)
	err := db.Snapshot(ctx, func(tx pgx.Tx) error {
		r, err := tx.Query(ctx,
			`SELECT e.*, s.* FROM audit_events e FULL JOIN audit_seals s ON s.tenant_id = e.tenant_id
			AND s.event_id = e.id`)
		if err != nil {
			return err
		}
		defer r.Close()
		for r.Next() {
			rows++
		}
		return r.Err()
	})
	return Measurement{What: "reading the same rows, one connection", Unit: "events",
		Rate: float64(rows) / time.Since(start).Seconds()}, err
}
