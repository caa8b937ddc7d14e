package migrations_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/migrations"
)

// keptStatistics are the text columns that keep planner statistics, because plans would be worse without them or
// because they have a fixed vocabulary. The threat model says what the statistics reveal.
var keptStatistics = map[string]bool{
	"audit_events.action_type": true, "audit_events.user_id": true, "kb_jobs.state": true, "kb_sources.language": true,
	"kb_points.language": true,
	"kb_models.model":    true, "kb_vectors.model": true, "kb_tiers.model": true, "artifact_files.kind": true,
	"artifact_files.state": true, "access_users.role": true,
}

// texts returns the columns of tenants' tables that the app may read and for which PostgreSQL lets the planner use
// statistics under row-level security.
func texts(t *testing.T, super *pgx.Conn) (all [][2]string) {
	t.Helper()
	rows, err := super.Query(t.Context(),
		`SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute i ON i.attrelid = c.oid
			AND i.attname = 'tenant_id'
	    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	    AND a.atttypid IN ('text'::regtype, 'bytea'::regtype, 'varchar'::regtype)
	   WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
	   AND has_column_privilege('konstruct_app', c.oid, a.attnum, 'SELECT') ORDER BY 1, 2`)
	if err == nil {
		var table, column string
		_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
			all = append(all, [2]string{table, column})
			return nil
		})
	}
	if err != nil || len(all) < 40 {
		t.Fatalf("%d columns, %v", len(all), err)
	}
	return all
}

// estimate returns the planner's estimate of rows, times a million.
func estimate(t *testing.T, tx pgx.Tx, table, where string) float64 {
	t.Helper()
	var raw []byte
	if err := tx.QueryRow(t.Context(),
		`EXPLAIN (FORMAT JSON) SELECT FROM `+table+`, generate_series(1, 1000000) WHERE `+where).
		Scan(&raw); err != nil {
		t.Fatalf("%s, %s: %v", table, where, err)
	}
	var plan []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(raw, &plan); err != nil {
		t.Fatal(err)
	}
	return plan[0].Plan.Rows
}

// TestEstimatesTellNoTextsOfOthers checks that tenant A can't use the planner's estimates to confirm a guess of what B
// has stored, or to find it by bisection.
func TestEstimatesTellNoTextsOfOthers(t *testing.T) {
	d := testkit.Database(t)
	super, app := testkit.Connect(t, d.SuperuserURL()), testkit.Connect(t, d.URL("konstruct_app"))
	for tenant, own := range map[string]string{tenantB: "plan", tenantA: "ours"} {
		as(t, app, tenant, func(tx pgx.Tx) {
			for _, sql := range []string{
				`INSERT INTO kb_documents (tenant_id, id, agent_id, filename, source_url) SELECT '` + tenant +
					`', gen_random_uuid(), gen_random_uuid(), '` + own + `' || n % 7, '` + own +
					`' || n % 7 FROM generate_series(1, 1500) n`,
				`INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe, title)
					SELECT tenant_id, id, 'file:///' || id, 1, sha256(''), 'r', filename FROM kb_documents`,
				`INSERT INTO kb_chunks (tenant_id, id, document_id, content, embedding)
					SELECT tenant_id, gen_random_uuid(), id, filename || ' of them', ` + vector + ` FROM kb_documents`,
				`INSERT INTO audit_events (tenant_id, action_type, input_summary) SELECT '` + tenant + `', 'merge', '` +
					own + `' || n % 7 FROM generate_series(1, 1500) n`,
			} {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
		})
	}
	analyze := func() {
		if _, err := super.Exec(t.Context(), `ANALYZE`); err != nil {
			t.Fatal(err)
		}
	}
	// revealing lists the columns whose estimates reveal something of B's.
	revealing := func() (revealing []string) {
		as(t, app, tenantA, func(tx pgx.Tx) {
			for _, c := range texts(t, super) {
				name := c[0] + "." + c[1]
				if keptStatistics[name] {
					continue
				}
				var common, middle *string // of all tenants' values, as literals
				if err := super.QueryRow(t.Context(),
					fmt.Sprintf(`SELECT quote_literal(mode() WITHIN GROUP (ORDER BY %[1]s)),
					quote_literal(percentile_disc(0.9) WITHIN GROUP (ORDER BY %[1]s)) FROM %[2]s`, c[1], c[0])).
					Scan(&common, &middle); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if common == nil {
					continue
				}
				if estimate(t, tx, c[0], c[1]+" = "+*common) != estimate(t, tx, c[0], c[1]+" = 'zz'") ||
					estimate(t, tx, c[0], c[1]+" < "+*middle) != estimate(t, tx, c[0], c[1]+" < ''") {
					revealing = append(revealing, name)
				}
			}
		})
		return revealing
	}
	analyze()
	if got := revealing(); len(got) > 0 {
		t.Errorf("estimates tell what others have in %v: ALTER COLUMN … SET STATISTICS 0, or say in keptStatistics "+
			"why not", got)
	}
	for _, c := range texts(t, super) {
		var target *int16
		if err := super.QueryRow(t.Context(),
			`SELECT attstattarget FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2`, c[0], c[1]).
			Scan(&target); err != nil {
			t.Fatal(err)
		}
		if zero := target != nil && *target == 0; zero == keptStatistics[c[0]+"."+c[1]] {
			t.Errorf("%s.%s: statistics target %v", c[0], c[1], target)
		}
	}
	// The probe works when there are statistics, and the migration clears earlier statistics.
	owner, err := migrations.Open(d.URL("konstruct_owner"))
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	for name := ""; name != "00013_statistics.sql"; {
		if name, err = owner.Down(t.Context()); err != nil || name == "" {
			t.Fatalf("down: %q, %v", name, err)
		}
	}
	analyze()
	want := []string{"audit_events.input_summary", "kb_chunks.content", "kb_documents.filename",
		"kb_documents.source_url", "kb_sources.title"}
	if got := strings.Join(revealing(), " "); !contains(got, want) {
		t.Errorf("with statistics %q are revealed: the probe finds nothing", got)
	}
	if _, err := owner.Up(context.WithoutCancel(t.Context()), quiet); err != nil {
		t.Fatal(err)
	}
	var clears bool
	if err := super.QueryRow(t.Context(), `SELECT to_regproc('pg_clear_attribute_stats') IS NOT NULL`).
		Scan(&clears); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string(nil), revealing()); clears && d != "" {
		t.Errorf("revealed after the upgrade: %s", d)
	}
}

func contains(all string, want []string) bool {
	for _, w := range want {
		if !strings.Contains(all, w) {
			return false
		}
	}
	return true
}
