package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// writers are all ways to write events.
func writers(t *testing.T, door *tenantdb.Door) map[string]func(n int) error {
	e := func(n int) audit.Event {
		return audit.Event{Action: "llm_call", UserID: "ada", Input: fmt.Sprint(n), Output: "answer",
			Metadata: []byte(`{"b": 1.50, "a": [1e2, "é", null, {"x": -0.0}]}`)}
	}
	many := func(n int) (all []audit.Event) {
		for i := range n {
			all = append(all, e(i))
		}
		return all
	}
	return map[string]func(n int) error{
		"one": func(int) error { _, err := audit.Log(t.Context(), door, tenantA, e(1)); return err },
		"a batch": func(n int) error {
			_, err := audit.LogBatch(t.Context(), door, tenantA, many(n))
			return err
		},
		"in the caller's transaction": func(n int) error {
			return door.Tx(t.Context(), tenantA, func(ctx context.Context, tx pgx.Tx) error {
				_, err := audit.InTx(ctx, tx, tenantA, many(n)...)
				return err
			})
		},
		"a shared commit": func(n int) error {
			g := audit.NewGroup(door)
			defer g.Close()
			failed := make([]error, n)
			var all sync.WaitGroup
			for i := range n {
				all.Go(func() { _, failed[i] = g.Log(t.Context(), tenantA, e(i)) })
			}
			all.Wait()
			for i, err := range failed { // each caller gets its own event's result
				if (err == nil) != (failed[0] == nil) {
					return fmt.Errorf("of a shared commit event 0 got %v, and event %d %v", failed[0], i, err)
				}
			}
			return errors.Join(failed...)
		},
	}
}

// TestNothingIsWrittenWithoutItsSeal disables sealing in every way, and writes in every way.
func TestNothingIsWrittenWithoutItsSeal(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"the sealing trigger off": {`ALTER TABLE audit_events DISABLE TRIGGER ALL`, "is not sealed"},
		"sealed by nothing": {
			`CREATE OR REPLACE FUNCTION audit_seal() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
			"is not sealed"},
		"a rule that diverts": {
			`CREATE TABLE elsewhere (LIKE audit_events);
				CREATE RULE away AS ON INSERT TO audit_events DO INSTEAD INSERT INTO elsewhere VALUES (NEW.*)
				RETURNING *; GRANT ALL ON elsewhere TO konstruct_app`, ""},
		"a trigger that drops rows": {
			`CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
				CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swallow()`, ""},
		"a seal that commits to less": {
			`CREATE OR REPLACE FUNCTION audit_commitments(salt bytea, agent_id uuid, user_id text, action_type text,
			input_summary text, output_summary text, latency_ms integer,
			metadata jsonb) RETURNS bytea LANGUAGE sql STABLE AS $$SELECT decode(repeat('00', 224), 'hex')$$`,
			"was sealed as another"},
		"a trigger that rewrites text": {
			`CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.output_summary := 'changed';
				RETURN NEW; END$$; CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swap()`,
			"was sealed as another"},
		"one that rewrites metadata": {
			`CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.metadata := NEW.metadata || ` +
				`'{"b": 1.51}'; RETURN NEW; END$$; CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW ` +
				`EXECUTE FUNCTION swap()`, "its metadata"},
		"one that gives another id": {
			`CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.id := gen_random_uuid();
				RETURN NEW; END$$; CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swap()`,
			""},
	} {
		t.Run(name, func(t *testing.T) {
			d := testkit.Database(t)
			door := testkit.DoorOf(t, d)
			all := writers(t, door)
			for how, write := range all {
				if err := write(3); err != nil {
					t.Fatalf("%s, while all is well: %v", how, err)
				}
			}
			super := testkit.Connect(t, d.SuperuserURL())
			if _, err := super.Exec(t.Context(), `SET konstruct.allow_ddl = on; `+c.sql); err != nil {
				t.Fatal(err)
			}
			for how, write := range all {
				err := write(3)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, want %q", how, err, c.want)
				}
			}
			var bare int
			if err := super.QueryRow(t.Context(),
				`SELECT count(*) FROM audit_events e WHERE NOT EXISTS (SELECT FROM audit_seals s
				WHERE s.tenant_id = e.tenant_id AND s.event_id = e.id)`).Scan(&bare); err != nil || bare > 0 {
				t.Errorf("%d events were written without a seal, %v", bare, err)
			}
		})
	}
}

// TestSaltsAreTheWritersAlone asks for seals of other transactions, tenants and none.
func TestSaltsAreTheWritersAlone(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	ids, err := audit.LogBatch(t.Context(), door, tenantA, []audit.Event{{Action: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []uuid.UUID{tenantA, tenantB, uuid.MustParse("99999999-9999-4999-8999-999999999999")} {
		err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := audit.InTx(ctx, tx, tenant, audit.Event{Action: "y"}); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, `SELECT event_id::text FROM audit_sealed_here($1)`, ids)
			if err != nil {
				return err
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if len(got) > 0 {
				t.Errorf("tenant %s is told of the seals of another transaction", tenant)
			}
			return err
		})
		if tenant == tenantA && err != nil || tenant != tenantA &&
			(err == nil || !strings.Contains(err.Error(), "is not sealed")) {
			t.Errorf("tenant %s: %v", tenant, err)
		}
	}
	var n int
	if err := testkit.Connect(t, d.URL("konstruct_app")).
		QueryRow(t.Context(), `SELECT count(*) FROM audit_sealed_here(NULL)`).Scan(&n); err != nil || n != 0 {
		t.Errorf("without a tenant: %d, %v", n, err)
	}
}

// TestOnlyTheChangedEventsOfASharedCommitAreRefused changes the seals of some events of shared commits. Only the
// callers of those events get an error, and from the spool only those events are set aside.
func TestOnlyTheChangedEventsOfASharedCommitAreRefused(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	super := testkit.Connect(t, d.SuperuserURL())
	if _, err := super.Exec(t.Context(), `SET konstruct.allow_ddl = on;
		ALTER FUNCTION audit_commitments RENAME TO honest_commitments;
		CREATE FUNCTION audit_commitments(salt bytea, agent_id uuid, user_id text, action_type text,
		input_summary text, output_summary text, latency_ms integer, metadata jsonb) RETURNS bytea LANGUAGE sql STABLE
		AS $$SELECT public.honest_commitments(salt, agent_id, CASE user_id WHEN 'bob' THEN 'ann' ELSE user_id END,
		action_type, input_summary, output_summary, latency_ms, metadata)$$;
		GRANT EXECUTE ON FUNCTION audit_commitments, honest_commitments TO PUBLIC`); err != nil {
		t.Fatal(err)
	}
	tenants, users := []uuid.UUID{tenantA, tenantB}, []string{"ann", "bob"}
	const n = 200
	event := func(i int) (uuid.UUID, audit.Event) {
		return tenants[i%2], audit.Event{Action: "llm_call", UserID: users[i/2%2], Input: fmt.Sprint(i)}
	}
	t.Run("a group", func(t *testing.T) {
		g := audit.NewGroup(door)
		defer g.Close()
		var all sync.WaitGroup
		failed := make([]error, n)
		for i := range n {
			all.Go(func() {
				tenant, e := event(i)
				_, failed[i] = g.Log(t.Context(), tenant, e)
			})
		}
		all.Wait()
		for i, err := range failed {
			_, e := event(i)
			if errors.Is(err, audit.ErrChanged) != (e.UserID == "bob") || e.UserID == "ann" && err != nil {
				t.Fatalf("event %d of %s: %v", i, e.UserID, err)
			}
		}
	})
	t.Run("the spool", func(t *testing.T) {
		s, err := audit.OpenSpool(door, t.TempDir(), 0, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range n {
			tenant, e := event(i)
			if _, err := s.Log(t.Context(), tenant, e); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Drain(t.Context()); err != nil || s.Status().Rejected != n/2 {
			t.Errorf("%+v are set aside, want %d: %v", s.Status(), n/2, err)
		}
	})
}
