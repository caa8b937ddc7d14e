package migrations_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/konstruct/konstruct/internal/testkit"
)

// TestSQLLeafVectors checks the database's functions with the same vectors as ledger's test.
func TestSQLLeafVectors(t *testing.T) {
	raw, err := os.ReadFile("../ledger/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []json.RawMessage
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	d := testkit.Database(t)
	app := testkit.Connect(t, d.SuperuserURL()) // a superuser, to create a helper function
	if _, err := app.Exec(t.Context(),
		`CREATE FUNCTION pg_temp.at(micros text) RETURNS timestamptz LANGUAGE sql RETURN CASE micros
	    WHEN '9223372036854775807' THEN 'infinity'::timestamptz
	    WHEN '-9223372036854775808' THEN '-infinity'::timestamptz
	    ELSE '2000-01-01Z'::timestamptz + (micros || ' microseconds')::interval END`); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		var what, commitments, leaf, metadata, want, wantLeaf, wantMetadata string
		err := app.QueryRow(t.Context(), `
		  WITH v AS (SELECT $1::jsonb AS j),
		  e AS (SELECT j, decode(j->>'salt', 'hex') AS salt, (j->>'mode')::smallint AS mode,
		  pg_temp.at(j->>'recorded_at') AS recorded,
		      ROW((j->>'id')::uuid, (j->>'tenant_id')::uuid, (j->>'agent_id')::uuid, j->>'user_id', j->>'action_type',
		      j->>'input_summary', j->>'output_summary',
		          (j->>'latency_ms')::int, (j->>'metadata')::jsonb,
		          pg_temp.at(j->>'created_at'))::audit_events AS event FROM v),
		  c AS (SELECT *, audit_commitments(salt, (event).agent_id, (event).user_id, (event).action_type,
		  (event).input_summary, (event).output_summary, (event).latency_ms, (event).metadata) AS commitments FROM e)
		  SELECT j->>'what', encode(commitments, 'hex'), encode(audit_leaf(commitments, mode, recorded,
		  (event).tenant_id, (event).id, (event).created_at), 'hex'), (event).metadata::text,
		         j->>'commitments', j->>'leaf_hash', j->>'metadata' FROM c`, v).Scan(&what, &commitments, &leaf,
			&metadata, &want, &wantLeaf, &wantMetadata)
		if err != nil {
			t.Fatalf("%s: %v", v, err)
		}
		if commitments != want || leaf != wantLeaf || metadata != wantMetadata {
			t.Errorf("%s: leaf %s, want %s; metadata %.60s, want %.60s", what, leaf, wantLeaf, metadata, wantMetadata)
		}
	}
}

// TestSealedRowsAreTheLeafFormat writes random rows and compares each stored seal with the Go encoder's.
func TestSealedRowsAreTheLeafFormat(t *testing.T) {
	d := testkit.Database(t)
	app := testkit.Connect(t, d.URL("konstruct_app"))
	text := rapid.Custom(func(t *rapid.T) *string {
		s := rapid.StringOf(rapid.RuneFrom([]rune{'a', 'é', '漢', '🔐', '\n', '\\', '"', '\x01', '\u0301', ' '})).
			Draw(t, "text")
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		return &s
	})
	const rows = 400
	as(t, app, tenantA, func(tx pgx.Tx) {
		for n := range rows {
			var latency *int32
			if n%3 > 0 {
				l := rapid.Int32().Example(n)
				latency = &l
			}
			meta, err := json.Marshal(map[string]any{"f": rapid.Float64().Example(n), "s": text.Example(n),
				"a": rapid.SliceOf(rapid.Int64()).Example(n)})
			if err != nil {
				t.Fatal(err)
			}
			action := text.Example(n + 4*rows)
			if action == nil {
				action = new(string)
			}
			if _, err := tx.Exec(t.Context(),
				`INSERT INTO audit_events (tenant_id, user_id, action_type, input_summary, output_summary, latency_ms,
					metadata, created_at)
			  VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp(0) + $8 * interval '1 microsecond')`,
				tenantA, text.Example(n+rows), *action, text.Example(n+2*rows), text.Example(n+3*rows), latency, meta,
				rapid.Int64Range(-1e16, 1e16).Example(n)); err != nil {
				t.Fatal(err)
			}
		}
	})
	if r := verifyAll(t, d); r.Events != rows || !r.OK() {
		t.Errorf("%+v", r)
	}
}
