package tenantdb_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

const addEvent = `INSERT INTO audit_events (tenant_id, action_type) VALUES ($1, 'x')`

func count(t *testing.T, door *tenantdb.Door) (n int) {
	t.Helper()
	if err := door.Query(t.Context(), tenantA, `SELECT count(*) FROM audit_events`, nil, func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				return err
			}
		}
		return rows.Err()
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTxTriesAgainWhatSurelyRolledBack(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	super := testkit.Connect(t, d.SuperuserURL())
	for name, fail := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"serialization failure": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'not serializable' USING ERRCODE = '40001'; END $$`)
			return err
		},
		"deadlock": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$`)
			return err
		},
		"connection lost before COMMIT": func(ctx context.Context, tx pgx.Tx) error {
			if _, err := super.Exec(ctx, `SELECT pg_terminate_backend($1, 5000)`,
				tx.Conn().PgConn().PID()); err != nil {
				t.Error(err)
			}
			_, err := tx.Exec(ctx, `SELECT 1`)
			return err
		},
	} {
		before, runs := count(t, door), 0
		err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, addEvent, tenantA); err != nil {
				return err
			}
			if runs++; runs == 1 {
				return fail(ctx, tx)
			}
			return nil
		})
		if got := count(t, door) - before; err != nil || runs != 2 || got != 1 {
			t.Errorf("%s: %d runs, %d events, %v; want 2 runs and one event", name, runs, got, err)
		}
	}
	runs := 0
	sentinel := errors.New("the caller's own")
	if err := door.Tx(t.Context(), tenantA, func(context.Context, pgx.Tx) error {
		runs++
		return sentinel
	}); !errors.Is(err, sentinel) || runs != 1 {
		t.Errorf("the caller's own error: %d runs, %v", runs, err)
	}
	runs = 0
	if err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
		runs++
		_, err := tx.Exec(ctx, `SELECT 1/0`)
		return err
	}); err == nil || runs != 1 {
		t.Errorf("a division by zero: %d runs, %v", runs, err)
	}
}

func TestTwoThatWaitForEachOtherBothEnd(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	var both sync.WaitGroup
	var runs atomic.Int32
	held := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	for i := range 2 {
		both.Go(func() {
			first := true
			if err := door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
				runs.Add(1)
				if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, i); err != nil {
					return err
				}
				if first {
					first = false
					close(held[i])
				}
				<-held[1-i]
				_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, 1-i)
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if runs.Load() != 3 {
		t.Errorf("%d runs, want 3: one of two gave way once", runs.Load())
	}
}

// TestWhatMayHaveCommittedIsNotTriedAgain cuts the line after COMMIT went out and before its answer came.
func TestWhatMayHaveCommittedIsNotTriedAgain(t *testing.T) {
	d := testkit.Database(t)
	var cut atomic.Bool
	door, err := tenantdb.Open(t.Context(), through(t, d.URL("konstruct_app"), &cut))
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	runs := 0
	err = door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
		runs++
		_, err := tx.Exec(ctx, addEvent, tenantA)
		cut.Store(true)
		return err
	})
	if err == nil || runs != 1 {
		t.Errorf("%d runs, %v; want one, and an error", runs, err)
	}
	cut.Store(false)
	time.Sleep(200 * time.Millisecond)
	if n := count(t, testkit.DoorOf(t, d)); n != 1 {
		t.Errorf("%d events: the server did commit, once", n)
	}
	cut.Store(true)
	if err := door.Query(t.Context(), tenantA, addEvent, []any{tenantA}, nil); err == nil {
		t.Error("a pipeline whose answer was lost succeeded")
	}
}

// through is a URL that leads to the same database over a line whose answers are lost while cut is true.
func through(t *testing.T, raw string, cut *atomic.Bool) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	server := u.Host
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go func() { _, _ = io.Copy(back, client); back.Close() }()
			go func() {
				defer client.Close()
				buf := make([]byte, 32<<10)
				for {
					n, err := back.Read(buf)
					if err != nil || cut.Load() {
						return
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}

func TestQueryIsOneRoundTripThatCommits(t *testing.T) {
	door := testkit.Door(t)
	if err := door.Query(t.Context(), tenantA, addEvent, []any{tenantA}, nil); err != nil {
		t.Fatal(err)
	}
	if n := count(t, door); n != 1 {
		t.Errorf("%d events", n)
	}
	var pg *pgconn.PgError
	if err := door.Query(t.Context(), tenantA, addEvent, []any{tenantB}, nil); !errors.As(err, &pg) ||
		pg.Code != "42501" {
		t.Errorf("a forged tenant: %v", err)
	}
	if err := door.Query(t.Context(), tenantA, `SELECT 1/0`, nil, nil); err == nil ||
		!strings.Contains(err.Error(), "division by zero") {
		t.Errorf("a failing statement: %v", err)
	}
	if n := count(t, door); n != 1 { // the connection that failed serves again
		t.Errorf("%d events after failures", n)
	}
}

func TestStreamIsAllOrNothing(t *testing.T) {
	door := testkit.Door(t)
	part := func(tenant uuid.UUID, sql string, arg uuid.UUID) tenantdb.Part {
		return tenantdb.Part{Tenant: tenant, SQL: sql, Params: func(p *tenantdb.Params) { p.UUID(arg) }}
	}
	own := part(tenantA, addEvent, tenantA)
	if err := door.Stream(t.Context(), []tenantdb.Part{own, part(tenantB, addEvent, tenantB), own}); err != nil {
		t.Fatal(err)
	}
	var pg *pgconn.PgError
	for name, second := range map[string]tenantdb.Part{"a row forged for B": part(tenantA, addEvent, tenantB),
		"a row of A under B": part(tenantB, addEvent, tenantA)} {
		if err := door.Stream(t.Context(), []tenantdb.Part{own, second}); !errors.As(err, &pg) || pg.Code != "42501" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, second := range map[string]tenantdb.Part{
		"a failing statement": part(tenantA, `SELECT 1/0 WHERE $1::uuid IS NOT NULL`, tenantA),
		"an argument too few": {Tenant: tenantA, SQL: addEvent, Params: func(*tenantdb.Params) {}},
		"an argument of another type": {Tenant: tenantA, SQL: addEvent,
			Params: func(p *tenantdb.Params) { p.Text("no uuid") }},
		"no SQL":                    part(tenantA, `SELEKT`, tenantA),
		"no tenant in the second":   part(uuid.Nil, addEvent, tenantA),
		"reading what is not there": part(tenantA, `SELECT * FROM nothing WHERE $1`, tenantA),
	} {
		if err := door.Stream(t.Context(), []tenantdb.Part{own, second}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if n := count(t, door); n != 2 {
		t.Errorf("%d events of A, want the 2 of the first", n)
	}
}

// BenchmarkQuery sets the pipelined call against the same statement in a transaction of four round trips.
func BenchmarkQuery(b *testing.B) {
	door := testkit.Door(b)
	b.Run("four round trips", func(b *testing.B) {
		for b.Loop() {
			if err := door.Tx(b.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
				var n int
				return tx.QueryRow(ctx, `SELECT 1`).Scan(&n)
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one round trip", func(b *testing.B) {
		for b.Loop() {
			if err := door.Query(b.Context(), tenantA, `SELECT 1`, nil, func(rows pgx.Rows) error {
				for rows.Next() {
				}
				return rows.Err()
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
