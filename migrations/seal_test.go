package migrations_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/ledger"
)

const (
	tenantA = "11111111-1111-4111-8111-111111111111"
	tenantB = "22222222-2222-4222-8222-222222222222"
)

// TestSealIsTheLeafFormat compares the database's leaf hash with the Go encoder's, for every combination of NULLs and
// for edge values.
func TestSealIsTheLeafFormat(t *testing.T) {
	c := testkit.Database(t)
	app := testkit.Connect(t, c.URL("konstruct_app"))
	tx, err := app.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`SET LOCAL app.current_tenant = '` + tenantA + `'`)
	const insert = `INSERT INTO audit_events (tenant_id, agent_id, user_id, action_type, input_summary, output_summary,
		latency_ms, metadata, created_at)
	                VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::timestamptz)`
	values := []any{tenantB, "ünïcode 漢字 🔐", "in\nput", "", 0}
	for mask := range 32 {
		args := []any{tenantA}
		for i, v := range values {
			if mask&(1<<i) == 0 {
				v = nil
			}
			args = append(args, v)
		}
		args = append(args[:3:3], append([]any{"llm_call"}, args[3:]...)...)
		exec(insert, append(args, "{}", "2026-01-01 00:00:00.000007+00")...)
	}
	for _, m := range []string{`{"n": 1e400}`, `{"n": -0, "m": -0.0, "z": 1.50}`,
		`{"b": 1, "a": {"é": [null, true, "\n"]}}`} {
		exec(insert, tenantA, nil, "", "", "", nil, -1, m, "infinity")
		exec(insert, tenantA, nil, nil, "tool_invocation", nil, nil, 2147483647, m, "-infinity")
		exec(insert, tenantA, nil, nil, "escalation", nil, nil, -2147483648, m, "0044-03-15 12:00:00 BC")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	notary := testkit.Connect(t, c.URL("konstruct_notary"))
	rows, err := notary.Query(t.Context(), `
	  SELECT e.tenant_id, e.id, timestamptz_send(e.created_at), e.agent_id, e.user_id, e.action_type, e.input_summary,
	         e.output_summary, e.latency_ms, e.metadata::text, s.mode, s.salt, timestamptz_send(s.recorded_at),
	         s.leaf_hash
	    FROM audit_events e JOIN audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id`)
	if err != nil {
		t.Fatal(err)
	}
	sealed := 0
	for rows.Next() {
		var e ledger.Event
		var mode ledger.Mode
		var created, recorded, salt, leaf []byte
		if err := rows.Scan(&e.TenantID, &e.ID, &created, &e.AgentID, &e.UserID, &e.ActionType, &e.InputSummary,
			&e.OutputSummary, &e.LatencyMS, &e.Metadata, &mode, &salt, &recorded, &leaf); err != nil {
			t.Fatal(err)
		}
		e.CreatedAt = micros(created)
		got := ledger.LeafHash(e.Leaf(mode, micros(recorded), e.Commitments([16]byte(salt))))
		if diff := cmp.Diff(leaf, got[:]); diff != "" {
			t.Errorf("%+v: the database's leaf and ours differ:\n%s", e, diff)
		}
		sealed++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if want := 32 + 9; sealed != want {
		t.Errorf("%d events are sealed, want %d", sealed, want)
	}
}

func micros(wire []byte) ledger.Micros { return ledger.Micros(binary.BigEndian.Uint64(wire)) }

// TestNobodyRewrites checks that no role can change the trail, not even the superuser, and that another tenant, no
// tenant and a forged tenant see and write nothing.
func TestNobodyRewrites(t *testing.T) {
	c := testkit.Database(t)
	app := testkit.Connect(t, c.URL("konstruct_app"))
	script := func(conn *pgx.Conn, sql string) error {
		_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	if err := script(app, `BEGIN; SET LOCAL app.current_tenant = '`+tenantA+`';
		INSERT INTO audit_events (tenant_id, action_type) VALUES ('`+tenantA+`', 'llm_call'); COMMIT`); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"konstruct_app", "konstruct_owner", "konstruct_notary", "konstruct_compliance",
		"postgres"} {
		conn := testkit.Connect(t, c.URL(role))
		for _, prefix := range []string{"", "SET session_replication_role = replica; "} {
			for _, table := range []string{"audit_events", "audit_seals", "audit_logs"} {
				for _, sql := range []string{"UPDATE %s SET tenant_id = tenant_id WHERE false",
					"DELETE FROM %s WHERE false", "TRUNCATE %s CASCADE"} {
					sql = prefix + fmt.Sprintf(sql, table)
					if err := script(conn, sql); err == nil {
						t.Errorf("%s could: %s", role, sql)
					}
				}
			}
		}
	}
	for _, tenant := range []string{"", "SET LOCAL app.current_tenant = ''; ",
		"SET LOCAL app.current_tenant = '" + tenantB + "'; "} {
		for _, table := range []string{"audit_events", "audit_logs", "audit_adoptions", "kb_documents", "kb_chunks"} {
			var n int
			tx, err := app.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), tenant+"SELECT 1", pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			err = tx.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n)
			if err != nil && table != "audit_logs" && table != "audit_adoptions" { // no grant is fine too
				t.Error(err)
			}
			if n != 0 {
				t.Errorf("%q sees %d rows of %s", tenant, n, table)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := script(app, "BEGIN; "+tenant+"INSERT INTO audit_events (tenant_id, action_type) VALUES ('"+tenantA+
			"', 'forged'); COMMIT"); err == nil {
			t.Errorf("%q writes a row of another tenant", tenant)
		}
		_ = script(app, "ROLLBACK")
	}
}
