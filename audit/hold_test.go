package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// writers are the ways in which events are written.
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
			return errors.Join(failed...)
		},
	}
}

// TestNothingIsWrittenWithoutItsSeal switches sealing off in every way and writes in every way.
func TestNothingIsWrittenWithoutItsSeal(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"the sealing trigger off": {`ALTER TABLE audit_events DISABLE TRIGGER ALL`, "is not sealed"},
		"sealed by nothing": {
			`CREATE OR REPLACE FUNCTION audit_seal() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
			"is not sealed"},
		"a rule that diverts": {
			`CREATE TABLE elsewhere (LIKE audit_events); CREATE RULE away AS ON INSERT TO audit_events DO INSTEAD INSERT INTO elsewhere VALUES (NEW.*) RETURNING *; GRANT ALL ON elsewhere TO konstruct_app`, ""},
		"a trigger that drops rows": {
			`CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swallow()`, ""},
		"a seal that commits to less": {
			`CREATE OR REPLACE FUNCTION audit_commitments(salt bytea, agent_id uuid, user_id text, action_type text,
			input_summary text, output_summary text, latency_ms integer,
			metadata jsonb) RETURNS bytea LANGUAGE sql STABLE AS $$SELECT decode(repeat('00', 224), 'hex')$$`,
			"was sealed as another"},
		"a trigger that rewrites text": {
			`CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.output_summary := 'changed'; RETURN NEW; END$$; CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swap()`, "was sealed as another"},
		"one that rewrites metadata": {
			`CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.metadata := NEW.metadata || '{"b": 1.51}'; RETURN NEW; END$$; CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swap()`, "its metadata"},
		"one that gives another id": {
			`CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.id := gen_random_uuid(); RETURN NEW; END$$; CREATE TRIGGER a BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swap()`, ""},
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
				// Of a commit that was shared only the first event's error says what differs.
				shared := how == "a shared commit" && errors.Is(err, audit.ErrChanged)
				if err == nil || !strings.Contains(err.Error(), c.want) && !shared {
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
