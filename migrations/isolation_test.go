package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/internal/testkit"
)

const (
	docB   = "bbbbbbbb-0000-4000-8000-000000000001"
	chunkB = "bbbbbbbb-0000-4000-8000-000000000002"
	eventB = "bbbbbbbb-0000-4000-8000-000000000003"
	secret = "the-secret-of-b"
	vector = "('['||repeat('0.1,',383)||'0.1]')::vector"
)

// seeded returns a database in which both tenants have a row in every table, the app's connection, and the names of the
// tables with a tenant.
func seeded(t *testing.T) (*testkit.DB, *pgx.Conn, []string) {
	t.Helper()
	d := testkit.Database(t)
	app := testkit.Connect(t, d.URL("konstruct_app"))
	for tenant, ids := range map[string][3]string{
		tenantA: {"aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002",
			"aaaaaaaa-0000-4000-8000-000000000003"},
		tenantB: {docB, chunkB, eventB},
	} {
		as(t, app, tenant, func(tx pgx.Tx) {
			for _, sql := range []string{
				`INSERT INTO audit_events (tenant_id, id, action_type, user_id, metadata) VALUES ('` + tenant + `', '` +
					ids[2] + `', 'llm_call', '` + secret + `', '{"k": "` + secret + `"}')`,
				`INSERT INTO kb_documents (tenant_id, id, agent_id, filename) VALUES ('` + tenant + `', '` + ids[0] +
					`', gen_random_uuid(), '` + secret + `')`,
				`INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe) VALUES ('` +
					tenant + `', '` + ids[0] + `', 'file:///x', 1, sha256('x'), 'r')`,
				`INSERT INTO kb_chunks (tenant_id, id, document_id, content, embedding) VALUES ('` + tenant + `', '` +
					ids[1] + `', '` + ids[0] + `', '` + secret + `', ` + vector + `)`,
				`INSERT INTO kb_points (tenant_id, document_id, chunk_id, piece_of, language) VALUES ('` + tenant +
					`', '` + ids[0] + `', gen_random_uuid(), '` + ids[1] + `', '` + secret + `')`,
				`INSERT INTO kb_settings (tenant_id, language) VALUES ('` + tenant + `', 'german')`,
				`INSERT INTO kb_passages (tenant_id, chunk_id, start_byte, end_byte) VALUES ('` + tenant + `', '` +
					ids[1] + `', 0, 1)`,
				`INSERT INTO kb_models (tenant_id, model, dimensions) VALUES ('` + tenant + `', '` + secret + `', 2)`,
				`INSERT INTO kb_vectors (tenant_id, chunk_id, model, embedding) VALUES ('` + tenant + `', '` + ids[1] +
					`', '` + secret + `', '[1,2]')`,
				`INSERT INTO kb_texts (tenant_id, document_id, content) VALUES ('` + tenant + `', '` + ids[0] + `', '` +
					secret + `')`,
				`INSERT INTO kb_versions (tenant_id, document_id, version, agent_id, bytes, content_sha256,
					recipe, ingested_at) VALUES ('` + tenant + `', '` + ids[0] +
					`', 1, gen_random_uuid(), 1, '', '', now())`,
				// its trigger inserts a ticket
				`INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename) VALUES ('` + tenant + `', '` + ids[0] +
					`', gen_random_uuid(), '` + secret + `', '')`,
				`INSERT INTO kb_tombstones (tenant_id, source_sha256, seq) VALUES ('` + tenant + `', sha256('` +
					secret + `'), 1)`,
				`INSERT INTO kb_tiers (tenant_id, model, chunks) VALUES ('` + tenant + `', '', 1)`,
				`INSERT INTO kb_uploads (tenant_id, job_id, content) VALUES ('` + tenant + `', '` + ids[0] + `', '` +
					secret + `')`,
				`INSERT INTO access_keys (tenant_id, id, name, hash, permissions, created_by) VALUES ('` + tenant +
					`', '` + ids[0] + `', '` + secret + `', sha256(''), '{}', '')`,
				`INSERT INTO access_users (tenant_id, id, issuer, subject, role, created_by) VALUES ('` + tenant +
					`', '` + ids[0] + `', 'i', '` + secret + `', 'viewer', '')`,
				`INSERT INTO access_limits (tenant_id, limits, set_by) VALUES ('` + tenant + `', '{"k": "` +
					secret + `"}', '')`,
				`INSERT INTO access_requests (tenant_id, credential, key, print, body) VALUES ('` + tenant + `', '` +
					ids[0] + `', 'k', '', '` + secret + `')`,
				`INSERT INTO artifact_files (tenant_id, id, kind, given, expires_at) VALUES ('` + tenant + `', '` +
					ids[0] + `', 'upload', '{"k": "` + secret + `"}', now())`,
				`INSERT INTO artifact_pieces (tenant_id, file_id, start, content) VALUES ('` + tenant + `', '` +
					ids[0] + `', 0, '` + secret + `')`,
				`INSERT INTO audit_reports (tenant_id, event_id, digest, event, due) VALUES ('` + tenant + `', '` +
					ids[0] + `', sha256(''), '{"k": "` + secret + `"}', now())`,
				`INSERT INTO kb_collections (tenant_id, id, name, expires_days) VALUES ('` + tenant + `', '` + ids[0] +
					`', '` + secret + `', 1)`,
				`INSERT INTO kb_collection_documents (tenant_id, collection_id, id, document_id, attributes)
					VALUES ('` + tenant + `', '` + ids[0] + `', '` + ids[0] + `', '` + ids[0] +
					`', '{"k": "` + secret + `"}')`,
				`INSERT INTO kb_collection_points (tenant_id, collection_id, document_id, chunk_id, half) VALUES ('` +
					tenant + `', '` + ids[0] + `', '` + ids[0] + `', '` + ids[1] + `', ` + vector + `::halfvec)`,
				`INSERT INTO webhook_endpoints (tenant_id, id, url, types, created_by) VALUES ('` + tenant + `', '` +
					ids[0] + `', 'https://` + secret + `', '{*}', '')`,
				`INSERT INTO webhook_secrets (tenant_id, endpoint_id, id, sealed) VALUES ('` + tenant + `', '` +
					ids[0] + `', '` + ids[0] + `', '` + secret + `')`,
				`INSERT INTO webhook_messages (tenant_id, id, type, at, data) VALUES ('` + tenant + `', '` + ids[1] +
					`', 'x', now(), '{"k": "` + secret + `"}')`,
				`INSERT INTO webhook_deliveries (tenant_id, endpoint_id, message_id) VALUES ('` + tenant + `', '` +
					ids[0] + `', '` + ids[1] + `')`,
				`INSERT INTO webhook_attempts (tenant_id, endpoint_id, message_id, attempt, response) VALUES ('` +
					tenant + `', '` + ids[0] + `', '` + ids[1] + `', 1, '` + secret + `')`,
				`INSERT INTO kb_files (tenant_id, id, filename, purpose, bytes) VALUES ('` + tenant + `', '` + ids[0] +
					`', '` + secret + `', 'assistants', 1)`,
				`INSERT INTO kb_file_uploads (tenant_id, id, filename, purpose, expires_at) VALUES ('` + tenant +
					`', '` + ids[0] + `', '` + secret + `', 'assistants', now())`,
				`INSERT INTO kb_file_parts (tenant_id, id, file_id) VALUES ('` + tenant + `', '` + ids[0] + `', '` +
					ids[0] + `')`,
				`INSERT INTO kb_file_pieces (tenant_id, part_id, start, content) VALUES ('` + tenant + `', '` + ids[0] +
					`', 0, '` + secret + `')`,
				`INSERT INTO kb_file_batches (tenant_id, id, collection_id) VALUES ('` + tenant + `', '` + ids[0] +
					`', '` + ids[0] + `')`,
			} {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
		})
	}
	super := testkit.Connect(t, d.SuperuserURL())
	triggers := func(how string) {
		if _, err := super.Exec(t.Context(),
			`SET konstruct.allow_ddl = on; DO $$ DECLARE r record; BEGIN FOR r IN SELECT tgrelid::regclass AS tbl,
				tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'audit\_%' LOOP
		    EXECUTE format('ALTER TABLE %s `+how+
				` TRIGGER %I', r.tbl, r.tgname); END LOOP; END $$; RESET konstruct.allow_ddl`); err != nil {
			t.Fatal(err)
		}
	}
	triggers("DISABLE")
	for i, tenant := range []string{tenantA, tenantB} {
		// rows that only adoption, the notary and the compliance functions write
		for _, sql := range []string{
			`INSERT INTO audit_adoptions (tenant_id) VALUES ($1)`,
			`INSERT INTO audit_epochs (tenant_id, epoch, system_identifier) VALUES ($1, 1, 1)`,
			`INSERT INTO audit_tiles (tenant_id, level, tile, hashes, root)
				VALUES ($1, 0, 0, decode(repeat('00', 8192), 'hex'), sha256(''))`,
			`INSERT INTO audit_heads (tenant_id, size, anchor, root, at, salt, segment, xid, event_id, added,
				added_ids) VALUES ($1, 1, ` + fmt.Sprint(i) +
				`, sha256(''), now(), sha256(''), 2, '5', gen_random_uuid(), '', '')`,
			`INSERT INTO audit_checkpoints (tenant_id, size, anchor, note) VALUES ($1, 1, 0, '')`,
			`INSERT INTO audit_witnesses (tenant_id, size, name, kind, said) VALUES ($1, 1, '', 'cosignature', '')`,
			`INSERT INTO audit_keys (tenant_id, anchor, verifier, at) VALUES ($1, 0, '', now())`,
			`INSERT INTO audit_erasures (tenant_id, event_id, field, record_id)
				VALUES ($1, gen_random_uuid(), 4, gen_random_uuid())`,
			`INSERT INTO audit_holds (tenant_id, id, reason, placed_by) VALUES ($1, gen_random_uuid(), '` +
				secret + `', '')`,
			`INSERT INTO audit_retention (tenant_id, action_type, keep_days, set_by) VALUES ($1, '', 365, '')`,
			`INSERT INTO audit_gone (tenant_id, first, record_id, bits) VALUES ($1, 0, gen_random_uuid(), '')`,
			`INSERT INTO audit_two_people (tenant_id, set_by) VALUES ($1, '')`,
			`INSERT INTO audit_days (tenant_id, day, part, action_type, events, errors, input_tokens,
				output_tokens, latencies) VALUES ($1, '2026-01-01', 1, '` + secret + `', 1, 0, 0, 0, '{}')`,
			`INSERT INTO audit_requests (tenant_id, id, events, fields, reason, requested_by)
				VALUES ($1, gen_random_uuid(), '{}', '{4}', '` + secret + `', '')`,
		} {
			if _, err := super.Exec(t.Context(), sql, tenant); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	triggers("ENABLE ALWAYS")
	rows, err := super.Query(t.Context(),
		`SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
	  WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) < 8 {
		t.Fatalf("only %v have a tenant", tables)
	}
	for _, table := range tables {
		var n int
		if err := super.QueryRow(t.Context(), `SELECT count(DISTINCT tenant_id) FROM `+table).Scan(&n); err != nil ||
			n != 2 {
			t.Fatalf("%s has rows of %d tenants, the test wants 2: %v", table, n, err)
		}
	}
	return d, app, tables
}

func as(t *testing.T, conn *pgx.Conn, tenant string, fn func(pgx.Tx)) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	// With every label, so that only the tenant limits what is visible; labels_test.go tests labels.
	if _, err := tx.Exec(t.Context(), `SET LOCAL app.current_labels = '*'`); err != nil {
		t.Fatal(err)
	}
	if tenant != "none" {
		if _, err := tx.Exec(t.Context(), `SET LOCAL app.current_tenant = '`+tenant+`'`); err != nil {
			t.Fatal(err)
		}
	}
	fn(tx)
	if err := tx.Commit(t.Context()); err != nil && !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Fatal(err)
	}
}

// readable names the columns that the app may read: not all of audit_seals.
func readable(table string) string {
	if table == "audit_seals" {
		return "tenant_id, event_id, mode, leaf_hash, recorded_at"
	}
	return "*"
}

// closed are the tables that the app may not read at all.
var closed = []string{"audit_logs", "audit_adoptions", "audit_epochs", "audit_tiles", "audit_heads",
	"audit_checkpoints", "audit_witnesses", "audit_keys",
	"audit_holds", "audit_retention", "audit_gone", "audit_two_people", "audit_requests", "river_job"}

func TestEveryTableHidesOtherTenants(t *testing.T) {
	_, app, tables := seeded(t)
	for _, table := range tables {
		for tenant, want := range map[string]int{"none": 0, "": 0, tenantA: 1, tenantB: 1,
			"99999999-9999-4999-8999-999999999999": 0} {
			as(t, app, tenant, func(tx pgx.Tx) {
				rows, err := tx.Query(t.Context(), `SELECT DISTINCT tenant_id::text FROM (SELECT `+readable(table)+
					` FROM `+table+`) r`)
				var denied *pgconn.PgError
				if err == nil {
					var seen []string
					if seen, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
						if len(seen) != want || want == 1 && seen[0] != tenant {
							t.Errorf("%s as tenant %q: saw rows of %v, want %d", table, tenant, seen, want)
						}
						return
					}
				}
				if !errors.As(err, &denied) || denied.Code != "42501" || !slices.Contains(closed, table) {
					t.Errorf("%s as tenant %q: %v", table, tenant, err)
				}
			})
		}
	}
	// A careless user of the pool may leave a tenant set for the session. The next transaction's own setting overrides
	// it, and after it the session's setting sees only its own tenant's rows.
	if _, err := app.Exec(t.Context(), `SET app.current_tenant = '`+tenantB+`'`); err != nil {
		t.Fatal(err)
	}
	as(t, app, tenantA, func(tx pgx.Tx) {
		var user, tenant string
		if err := tx.QueryRow(t.Context(), `SELECT min(tenant_id::text), max(tenant_id::text) FROM audit_events`).
			Scan(&user, &tenant); err != nil || user != tenantA || tenant != tenantA {
			t.Errorf("a session's leftover tenant shows %s to %s, %v", user, tenant, err)
		}
	})
}

// TestEveryWriteAcrossTenantsIsRefused runs statements as tenant A that write B's rows.
func TestEveryWriteAcrossTenantsIsRefused(t *testing.T) {
	_, app, _ := seeded(t)
	const rls, denied, fk = "42501", "42501", "23503"
	for _, c := range []struct{ name, sql, code string }{
		{"forged event", `INSERT INTO audit_events (tenant_id, action_type) VALUES ('` + tenantB + `', 'x')`, rls},
		{"forged document", `INSERT INTO kb_documents (tenant_id, agent_id) VALUES ('` + tenantB +
			`', gen_random_uuid())`, rls},
		{"forged chunk", `INSERT INTO kb_chunks (tenant_id, document_id, content, embedding) VALUES ('` + tenantB +
			`', '` + docB + `', 'x', ` + vector + `)`, rls},
		{"forged source",
			`INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe) VALUES ('` +
				tenantB + `', '` + docB + `', 'y', 1, sha256('x'), 'r')`, rls},
		{"forged passage", `INSERT INTO kb_passages (tenant_id, chunk_id, start_byte, end_byte) VALUES ('` + tenantB +
			`', '` + chunkB + `', 0, 1)`, rls},
		{"forged job", `INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename) VALUES ('` + tenantB +
			`', gen_random_uuid(), gen_random_uuid(), '', '')`, rls},
		{"giving a job away", `UPDATE kb_jobs SET tenant_id = '` + tenantB + `'`, rls},
		{"an upload for another's job", `INSERT INTO kb_uploads (tenant_id, job_id, content) VALUES ('` + tenantA +
			`', '` + docB + `', '')`, fk},
		{"a text of another's document", `INSERT INTO kb_texts (tenant_id, document_id, content) VALUES ('` + tenantA +
			`', '` + docB + `', '')`, fk},
		{"a version of another's document",
			`INSERT INTO kb_versions (tenant_id, document_id, version, agent_id, bytes, content_sha256, recipe,
			ingested_at) VALUES ('` + tenantA + `', '` + docB + `', 1, gen_random_uuid(), 1, '', '', now())`, fk},
		{"forged model", `INSERT INTO kb_models (tenant_id, model, dimensions) VALUES ('` + tenantB + `', 'x', 2)`,
			rls},
		{"a vector of another's chunk", `INSERT INTO kb_vectors (tenant_id, chunk_id, model, embedding) VALUES ('` +
			tenantA + `', '` + chunkB + `', '` + secret + `', '[1,2]')`, fk},
		{"forged point", `INSERT INTO kb_points (tenant_id, document_id, chunk_id, language, text_hash) VALUES ('` +
			tenantB + `', '` + docB + `', gen_random_uuid(), '', 1)`, rls},
		{"forged setting", `INSERT INTO kb_settings (tenant_id, language) VALUES ('` + tenantB + `', 'dutch')
			ON CONFLICT (tenant_id) DO UPDATE SET language = 'dutch'`, rls},
		{"forged term", `INSERT INTO kb_terms (tenant_id, term, chunk_id, times, length) VALUES ('` + tenantB +
			`', 'x', '` + chunkB + `', 1, 1)`, rls},
		{"forged key", `INSERT INTO access_keys (tenant_id, id, name, hash, permissions, created_by) VALUES ('` +
			tenantB + `', gen_random_uuid(), '', sha256(''), '{}', '')`, rls},
		{"forged user", `INSERT INTO access_users (tenant_id, id, issuer, subject, role, created_by) VALUES ('` +
			tenantB + `', gen_random_uuid(), 'i', 'x', 'admin', '')`, rls},
		{"forged limits", `INSERT INTO access_limits (tenant_id, limits, set_by)
			VALUES ('99999999-9999-4999-8999-999999999999', '{}', '')`, rls},
		{"forged request", `INSERT INTO access_requests (tenant_id, credential, key, print) VALUES ('` + tenantB +
			`', gen_random_uuid(), 'k', '')`, rls},
		{"forged file", `INSERT INTO artifact_files (tenant_id, id, kind, given, expires_at) VALUES ('` + tenantB +
			`', gen_random_uuid(), 'upload', '{}', now())`, rls},
		{"forged piece", `INSERT INTO artifact_pieces (tenant_id, file_id, start, content) VALUES ('` + tenantB +
			`', '` + docB + `', 9, '')`, rls},
		{"forged tier", `INSERT INTO kb_tiers (tenant_id, model, chunks) VALUES ('` + tenantB + `', 'x', 1)`, rls},
		{"forged report", `INSERT INTO audit_reports (tenant_id, event_id, digest, event, due) VALUES ('` + tenantB +
			`', gen_random_uuid(), sha256('x'), '{}', now())`, rls},
		{"forged collection", `INSERT INTO kb_collections (tenant_id, id) VALUES ('` + tenantB +
			`', gen_random_uuid())`, rls},
		{"giving a collection away", `UPDATE kb_collections SET tenant_id = '` + tenantB + `'`, rls},
		{"an entry of another's collection", `INSERT INTO kb_collection_documents (tenant_id, collection_id, id)
			VALUES ('` + tenantA + `', '` + docB + `', gen_random_uuid())`, fk},
		{"an entry in another's collection", `INSERT INTO kb_collection_documents (tenant_id, collection_id, id)
			VALUES ('` + tenantB + `', '` + docB + `', gen_random_uuid())`, rls},
		{"another's document in a collection",
			`INSERT INTO kb_collection_documents (tenant_id, collection_id, id, document_id) VALUES ('` + tenantA +
				`', 'aaaaaaaa-0000-4000-8000-000000000001', gen_random_uuid(), '` + docB + `')`, fk},
		{"forged point of a collection",
			`INSERT INTO kb_collection_points (tenant_id, collection_id, document_id, chunk_id, half) VALUES ('` +
				tenantB + `', '` + docB + `', '` + docB + `', gen_random_uuid(), ` + vector + `::halfvec)`, rls},
		{"a point of another's collection",
			`INSERT INTO kb_collection_points (tenant_id, collection_id, document_id, chunk_id, half) VALUES ('` +
				tenantA + `', '` + docB + `', '` + docB + `', gen_random_uuid(), ` + vector + `::halfvec)`, fk},
		{"forged webhook", `INSERT INTO webhook_endpoints (tenant_id, id, url, types, created_by) VALUES ('` + tenantB +
			`', gen_random_uuid(), 'https://x', '{*}', '')`, rls},
		{"giving a webhook away", `UPDATE webhook_endpoints SET tenant_id = '` + tenantB + `'`, rls},
		{"a secret for another's webhook", `INSERT INTO webhook_secrets (tenant_id, endpoint_id, id, sealed)
			VALUES ('` + tenantA + `', '` + docB + `', gen_random_uuid(), 'x')`, fk},
		{"forged secret", `INSERT INTO webhook_secrets (tenant_id, endpoint_id, id, sealed)
			VALUES ('` + tenantB + `', '` + docB + `', gen_random_uuid(), 'x')`, rls},
		{"forged message", `INSERT INTO webhook_messages (tenant_id, id, type, at, data)
			VALUES ('` + tenantB + `', gen_random_uuid(), 'x', now(), '{}')`, rls},
		{"a message to another's webhook", `INSERT INTO webhook_deliveries (tenant_id, endpoint_id, message_id)
			SELECT '` + tenantA + `', '` + docB + `', id FROM webhook_messages LIMIT 1`, fk},
		{"a delivery of another's message", `INSERT INTO webhook_deliveries (tenant_id, endpoint_id, message_id)
			SELECT '` + tenantA + `', id, '` + chunkB + `' FROM webhook_endpoints LIMIT 1`, fk},
		{"forged delivery", `INSERT INTO webhook_deliveries (tenant_id, endpoint_id, message_id)
			VALUES ('` + tenantB + `', '` + docB + `', '` + chunkB + `')`, rls},
		{"forged attempt", `INSERT INTO webhook_attempts (tenant_id, endpoint_id, message_id, attempt)
			VALUES ('` + tenantB + `', '` + docB + `', '` + chunkB + `', 2)`, rls},
		{"an attempt of another's delivery", `INSERT INTO webhook_attempts (tenant_id, endpoint_id, message_id, attempt)
			VALUES ('` + tenantA + `', '` + docB + `', '` + chunkB + `', 2)`, fk},
		{"forged stored file", `INSERT INTO kb_files (tenant_id, id, filename, purpose, bytes) VALUES ('` + tenantB +
			`', gen_random_uuid(), '', '', 1)`, rls},
		{"giving a stored file away", `UPDATE kb_files SET tenant_id = '` + tenantB + `'`, rls},
		{"forged upload", `INSERT INTO kb_file_uploads (tenant_id, id, filename, purpose, expires_at) VALUES ('` +
			tenantB + `', gen_random_uuid(), '', '', now())`, rls},
		{"forged part", `INSERT INTO kb_file_parts (tenant_id, id, file_id) VALUES ('` + tenantB +
			`', gen_random_uuid(), '` + docB + `')`, rls},
		{"a part of another's file", `INSERT INTO kb_file_parts (tenant_id, id, file_id) VALUES ('` + tenantA +
			`', gen_random_uuid(), '` + docB + `')`, fk},
		{"a part of another's upload", `INSERT INTO kb_file_parts (tenant_id, id, upload_id) VALUES ('` + tenantA +
			`', gen_random_uuid(), '` + docB + `')`, fk},
		{"a piece of a stored file of another's", `INSERT INTO kb_file_pieces (tenant_id, part_id, start, content)
			VALUES ('` + tenantA + `', '` + docB + `', 9, '')`, fk},
		{"forged piece of a stored file", `INSERT INTO kb_file_pieces (tenant_id, part_id, start, content) VALUES ('` +
			tenantB + `', '` + docB + `', 9, '')`, rls},
		{"forged batch", `INSERT INTO kb_file_batches (tenant_id, id, collection_id) VALUES ('` + tenantB +
			`', gen_random_uuid(), '` + docB + `')`, rls},
		{"a batch in another's collection", `INSERT INTO kb_file_batches (tenant_id, id, collection_id) VALUES ('` +
			tenantA + `', gen_random_uuid(), '` + docB + `')`, fk},
		{"another's stored file in a collection",
			`INSERT INTO kb_collection_documents (tenant_id, collection_id, id, file_id) VALUES ('` + tenantA +
				`', 'aaaaaaaa-0000-4000-8000-000000000001', gen_random_uuid(), '` + docB + `')`, fk},
		{"another's batch in a collection",
			`INSERT INTO kb_collection_documents (tenant_id, collection_id, id, batch_id) VALUES ('` + tenantA +
				`', 'aaaaaaaa-0000-4000-8000-000000000001', gen_random_uuid(), '` + docB + `')`, fk},
		{"waking another's expiry", `SELECT kb_wake_expiry('` + tenantB + `', now())`, denied},
		{"changing a report", `UPDATE audit_reports SET event = '{}'`, denied},
		{"giving a chunk away", `UPDATE kb_chunks SET tenant_id = '` + tenantB + `'`, rls},
		{"an index of one's own", `CREATE INDEX mine ON kb_points (half)`, denied},
		{"a ticket of one's own", `INSERT INTO river_job (kind, args) VALUES ('tenant', '{"tenant": "` + tenantA +
			`"}')`, denied},
		{"whose turn it is", `SELECT * FROM river_job`, denied},
		{"who deals", `SELECT * FROM river_leader`, denied},
		{"becoming the worker", `SET ROLE konstruct_worker`, denied},
		{"chunk on another's document", `INSERT INTO kb_chunks (tenant_id, document_id, content, embedding) VALUES ('` +
			tenantA + `', '` + docB + `', 'x', ` + vector + `)`, fk},
		{"source on another's document",
			`INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe) VALUES ('` +
				tenantA + `', '` + docB + `', 'y', 1, sha256('x'), 'r')`, fk},
		{"passage on another's chunk", `INSERT INTO kb_passages (tenant_id, chunk_id, start_byte, end_byte) VALUES ('` +
			tenantA + `', '` + chunkB + `', 0, 1)`, fk},
		{"giving a document away", `UPDATE kb_documents SET tenant_id = '` + tenantB + `'`, rls},
		{"seal of one's own",
			`INSERT INTO audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
			VALUES ('` + tenantA + `', gen_random_uuid(), 0, '', '', '', '1', now())`, denied},
		{"log of one's own", `INSERT INTO audit_logs (tenant_id) VALUES ('` + tenantA + `')`, denied},
		{"salts", `SELECT salt FROM audit_seals`, denied},
		{"commitments", `SELECT commitments FROM audit_seals`, denied},
		{"seals whole", `SELECT * FROM audit_seals`, denied},
		{"rewriting by upsert", `INSERT INTO audit_events (tenant_id, id, action_type) VALUES ('` + tenantA +
			`', 'aaaaaaaa-0000-4000-8000-000000000003', 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET action_type = ` +
			`'y'`, denied},
		{"COPY in", `COPY audit_events (tenant_id, action_type) FROM STDIN`, "0A000"},
		{"an epoch of one's own", `SELECT audit_begin_epoch('` + tenantA + `')`, denied},
		{"a checkpoint of one's own", `INSERT INTO audit_checkpoints (tenant_id, size, anchor, note) VALUES ('` +
			tenantA + `', 9, 9, '')`, denied},
		{"the epoch in force", `SELECT audit_epoch_now()`, denied},
		{"the notary's lease", `LOCK TABLE audit_lease IN ACCESS SHARE MODE`, denied},
		{"adoption by hand", `SELECT audit_seal_adopted('` + tenantB + `', 10)`, denied},
		{"the migrations' own table", `SELECT * FROM goose_db_version`, denied},
		{"the migrations' sequence", `SELECT nextval('goose_db_version_id_seq')`, denied},
		{"a table of one's own", `CREATE TABLE mine (a int)`, denied},
		{"a view of one's own", `CREATE VIEW mine AS SELECT 1`, denied},
		{"a function of one's own", `CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1`, denied},
		{"becoming the notary", `SET ROLE konstruct_notary`, denied},
		{"row security off", `SET LOCAL row_security = off; SELECT count(*) FROM audit_events`, denied},
	} {
		as(t, app, tenantA, func(tx pgx.Tx) {
			_, err := tx.Exec(t.Context(), c.sql)
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != c.code {
				t.Errorf("%s: %v, want SQLSTATE %s", c.name, err, c.code)
				return
			}
			if all := pg.Message + pg.Detail + pg.Hint + pg.Where; strings.Contains(all, secret) {
				t.Errorf("%s: the refusal reveals %s", c.name, all)
			}
		})
	}
}

// TestTheNotaryOnlyAppends checks that the notary's role reads all tenants' evidence, appends its own, and can change
// nothing.
func TestTheNotaryOnlyAppends(t *testing.T) {
	d, _, _ := seeded(t)
	conn := testkit.Connect(t, d.URL("konstruct_notary"))
	var n int
	if err := conn.QueryRow(t.Context(), `SELECT count(DISTINCT tenant_id) FROM audit_seals`).Scan(&n); err != nil ||
		n != 2 {
		t.Errorf("the notary sees seals of %d tenants, %v", n, err)
	}
	for _, sql := range []string{
		`INSERT INTO audit_events (tenant_id, action_type) VALUES ('` + tenantA +
			`', 'x')`, `UPDATE audit_events SET user_id = 'x'`, `DELETE FROM audit_seals`,
		`UPDATE audit_heads SET size = 9`, `DELETE FROM audit_heads`, `TRUNCATE audit_tiles`,
		`DELETE FROM audit_checkpoints`, `UPDATE audit_keys SET verifier = 'x'`,
		`SELECT * FROM kb_chunks`, `INSERT INTO audit_epochs (tenant_id, epoch, system_identifier)
			VALUES ('6b6f6e73-7472-8563-8000-000000000000', 7, 1)`,
		`ALTER TABLE audit_seals ALTER COLUMN epoch SET DEFAULT 7`,
		`INSERT INTO audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
			VALUES ('` + tenantA + `', gen_random_uuid(), 0, '', '', '', '1', now())`,
	} {
		var pg *pgconn.PgError
		if _, err := conn.Exec(t.Context(), sql); !errors.As(err, &pg) || pg.Code != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// TestNothingIsRevealedSideways tries side channels that could reveal B's values to A.
func TestNothingIsRevealedSideways(t *testing.T) {
	_, app, _ := seeded(t)
	for _, c := range []struct{ name, sql string }{
		{"B's event id is free for A", `INSERT INTO audit_events (tenant_id, id, action_type) VALUES ('` + tenantA +
			`', '` + eventB + `', 'x')`},
		{"B's document id is free for A", `INSERT INTO kb_documents (tenant_id, id, agent_id) VALUES ('` + tenantA +
			`', '` + docB + `', gen_random_uuid())`},
		{"an upsert on B's id writes A's row", `INSERT INTO kb_documents (tenant_id, id, agent_id) VALUES ('` +
			tenantA + `', '` + docB +
			`', gen_random_uuid()) ON CONFLICT (tenant_id, id) DO UPDATE SET filename = 'mine'`},
		{"a cast that fails on B's value only", `SELECT count(*) FROM audit_events WHERE tenant_id <> '` + tenantA +
			`' AND user_id::int > 0`},
		{"a division that fails on B's rows only", `SELECT count(*) FROM kb_chunks WHERE 1 / (CASE WHEN tenant_id = '` +
			tenantA + `' THEN 1 ELSE 0 END) = 1`},
		{"updating everything", `UPDATE kb_documents SET filename = 'all'`},
		{"waking another", `SELECT kb_wake_index('` + tenantB + `')`},
		{"words that B has", `SELECT 1 / (1 - count(*)) FROM kb_terms WHERE term = 'secret' AND tenant_id = '` +
			tenantB + `'`},
		{"a message to B's webhook", `SELECT webhook_emit('` + tenantB + `', 'escalation.opened', now(), NULL, '{}')`},
		{"a message to nobody", `SELECT webhook_emit(NULL, NULL, NULL, NULL, NULL)`},
		{"due times that can't be", `SELECT webhook_escalation_due(m), webhook_escalation_due(NULL)
			FROM unnest('{"{\"konstruct.escalation.due\": \"soon\"}","{\"konstruct.escalation.due\": \"infinity\"}",
			"{\"konstruct.escalation.due\": [1]}","{\"konstruct.escalation.due\": null}"}'::jsonb[]) m`},
		{"deleting everything", `DELETE FROM kb_chunks`},
	} {
		as(t, app, tenantA, func(tx pgx.Tx) {
			if _, err := tx.Exec(t.Context(), c.sql); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
	as(t, app, tenantB, func(tx pgx.Tx) {
		var filename string
		var chunks int
		if err := tx.QueryRow(t.Context(), `SELECT min(filename), (SELECT count(*) FROM kb_chunks) FROM kb_documents`).
			Scan(&filename, &chunks); err != nil || filename != secret || chunks != 1 {
			t.Errorf("B now has filename %q and %d chunks, %v", filename, chunks, err)
		}
	})
	var copied strings.Builder
	as(t, app, tenantA, func(tx pgx.Tx) {
		if _, err := tx.Conn().PgConn().
			CopyTo(t.Context(), &copied, `COPY (SELECT tenant_id FROM audit_events) TO STDOUT`); err != nil {
			t.Error(err)
		}
	})
	if strings.Contains(copied.String(), tenantB) || !strings.Contains(copied.String(), tenantA) {
		t.Errorf("COPY out gives %q", copied.String())
	}
	// Besides the tables: the app may use none of our views, and only those of our functions that reveal nothing.
	rows, err := app.Query(t.Context(), `
	  SELECT 'view ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')
	  AND has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE, REFERENCES')
	  UNION ALL SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
	  AND has_function_privilege(oid, 'EXECUTE')
	     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"audit_count_days", "audit_figures", "audit_find_run", "audit_find_words",
		"audit_sealed_here", "audit_words", "kb_bury", "kb_collect", "kb_dictionary", "kb_fold",
		"kb_granted", "kb_hidden_collections", "kb_hidden_documents", "kb_hidden_files",
		"kb_hidden_passages", "kb_hidden_sources", "kb_meets", "kb_owned", "kb_pairs", "kb_parts", "kb_postings",
		"kb_question", "kb_read", "kb_sequence", "kb_term", "kb_time", "kb_tokens", "kb_umlauts",
		"kb_wake_index", "konstruct_schema", "webhook_emit", "webhook_escalation_due",
		"webhook_message_id"}, got); d != "" {
		t.Errorf("what the app may run (-want +got):\n%s", d)
	}
}

// TestTheGuardRefusesQuietDDL checks that DDL on the trail fails for its owner and for a superuser, and that the switch
// allows a migration.
func TestTheGuardRefusesQuietDDL(t *testing.T) {
	d := testkit.Database(t)
	for _, url := range []string{d.URL("konstruct_owner"), d.SuperuserURL()} {
		conn := testkit.Connect(t, url)
		if _, err := conn.Exec(t.Context(), `CREATE SCHEMA IF NOT EXISTS elsewhere`); err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{
			`ALTER TABLE audit_events DISABLE TRIGGER ALL`, `ALTER TABLE audit_seals DROP COLUMN salt`,
			`DROP TABLE audit_events CASCADE`, `DROP TRIGGER audit_seal ON audit_events`,
			`DROP POLICY tenant_isolation ON audit_events`, `ALTER TABLE audit_events NO FORCE ROW LEVEL SECURITY`,
			`CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
			`ALTER TABLE audit_logs RENAME TO audit_logs_old`, `ALTER TABLE audit_seals RENAME TO elsewhere`,
			`CREATE POLICY open ON audit_events USING (true)`, `DROP FUNCTION audit_refuse CASCADE`,
			`ALTER TABLE audit_seals ALTER COLUMN leaf_hash TYPE text USING ''`,
			`CREATE TRIGGER x BEFORE INSERT ON audit_events EXECUTE FUNCTION audit_refuse()`,
			`CREATE RULE away AS ON INSERT TO audit_events DO INSTEAD NOTHING`,
			`CREATE UNIQUE INDEX once ON audit_events (tenant_id, user_id)`, `DROP INDEX audit_seals_order`,
			`ALTER INDEX audit_seals_order RENAME TO order_of_seals`, `ALTER SCHEMA public RENAME TO kept`,
			`ALTER TABLE audit_keys SET SCHEMA elsewhere`, `CREATE TABLE more () INHERITS (audit_events)`,
			`ALTER FUNCTION audit_refuse() RENAME TO refuse`, `ALTER FUNCTION audit_seal() RESET search_path`,
			`ALTER TABLE audit_seals ALTER COLUMN epoch SET DEFAULT 7`,
			`ALTER TABLE audit_logs DROP CONSTRAINT no_tenant_is_the_super_log`,
			`ALTER TABLE audit_events ADD CONSTRAINT short CHECK (true)`,
			`ALTER POLICY tenant_isolation ON audit_events USING (true)`,
			`ALTER TABLE audit_events DISABLE ROW LEVEL SECURITY`, `CREATE SEQUENCE audit_epoch`,
			`CREATE VIEW audit_events_too AS SELECT 1`, `DROP VIEW audit_lease`,
			`ALTER TABLE audit_events ALTER COLUMN user_id SET STORAGE PLAIN`,
			`CREATE FUNCTION audit_other() RETURNS integer LANGUAGE sql RETURN 1`,
		} {
			var pg *pgconn.PgError
			if _, err := conn.Exec(t.Context(), sql); !errors.As(err, &pg) || pg.Code != "42501" ||
				!strings.Contains(pg.Hint, "konstruct.allow_ddl") {
				t.Errorf("%s: %v", sql, err)
			}
		}
		if _, err := conn.Exec(t.Context(),
			`CREATE TABLE other (a int); ALTER TABLE other ADD b int; DROP TABLE other`); err != nil {
			t.Errorf("DDL elsewhere: %v", err)
		}
		if _, err := conn.Exec(t.Context(),
			`SET konstruct.allow_ddl = on; ALTER TABLE audit_events ALTER COLUMN user_id
				SET STATISTICS 200`); err != nil {
			t.Errorf("with the switch: %v", err)
		}
	}
	log, err := os.ReadFile(filepath.Join(d.Dir, "pg", "log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"konstruct_owner", "postgres"} {
		if want := "konstruct: ALTER TABLE on public.audit_events by " + who +
			" let through by konstruct.allow_ddl"; !strings.Contains(string(log), want) {
			t.Errorf("the server's log does not say %q", want)
		}
	}
}

// TestTheOwnerSeesNoTenant checks that the schema's owner, who may become other roles, sees only what those roles see,
// and only as them.
func TestTheOwnerSeesNoTenant(t *testing.T) {
	d, _, tables := seeded(t)
	owner := testkit.Connect(t, d.URL("konstruct_owner"))
	theirs := []string{"audit_logs", "audit_adoptions", "audit_epochs"} // its functions write these for every tenant
	for _, table := range tables {
		if slices.Contains(theirs, table) {
			continue
		}
		for tenant, want := range map[string]int{"none": 0, tenantA: 1, "cccccccc-0000-4000-8000-000000000001": 0} {
			as(t, owner, tenant, func(tx pgx.Tx) {
				var n int
				if err := tx.QueryRow(t.Context(), `SELECT count(DISTINCT tenant_id) FROM `+table).
					Scan(&n); err != nil || n != want {
					t.Errorf("the owner sees %d tenants in %s with tenant %s set, want %d: %v", n, table,
						tenant, want, err)
				}
			})
		}
	}
}
