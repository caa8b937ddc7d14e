package migrations_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
)

const docLegal = "aaaaaaaa-0000-4000-8000-00000000000f"

// ofDocuments are tables whose rows belong to no document, although their columns suggest it.
var ofDocuments = map[string]string{
	"audit_requests": "its labels are none", "access_keys": "whoever has them", "access_users": "whoever has them",
}

// labelled returns a database in which tenant A has a document with the label legal, with a row in every table about
// documents, and the names of those tables.
func labelled(t *testing.T) (*testkit.DB, *pgx.Conn, []string) {
	t.Helper()
	d := testkit.Database(t)
	app, super := testkit.Connect(t, d.URL("konstruct_app")), testkit.Connect(t, d.SuperuserURL())
	chunk, job := docLegal[:len(docLegal)-1]+"e", docLegal
	as(t, app, tenantA, func(tx pgx.Tx) {
		for _, sql := range []string{
			`SET LOCAL app.current_labels = '{legal}'`,
			`INSERT INTO kb_documents (tenant_id, id, agent_id, filename) VALUES ('` + tenantA + `', '` + docLegal +
				`', gen_random_uuid(), '` + secret + `')`,
			`INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe, labels) VALUES ('` +
				tenantA + `', '` + docLegal + `', 'file:///legal', 1, sha256('x'), 'r', '{legal}')`,
			`INSERT INTO kb_chunks (tenant_id, id, document_id, content, embedding) VALUES ('` + tenantA + `', '` +
				chunk + `', '` + docLegal + `', '` + secret + `', ` + vector + `)`,
			`INSERT INTO kb_passages (tenant_id, chunk_id, start_byte, end_byte) VALUES ('` + tenantA + `', '` +
				chunk + `', 0, 1)`,
			`INSERT INTO kb_models (tenant_id, model, dimensions) VALUES ('` + tenantA + `', 'm', 2)`,
			`INSERT INTO kb_vectors (tenant_id, chunk_id, model, embedding) VALUES ('` + tenantA + `', '` + chunk +
				`', 'm', '[1,2]')`,
			`INSERT INTO kb_texts (tenant_id, document_id, content) VALUES ('` + tenantA + `', '` + docLegal + `', '` +
				secret + `')`,
			`INSERT INTO kb_versions (tenant_id, document_id, version, agent_id, bytes, content_sha256, recipe,
				ingested_at) VALUES ('` + tenantA + `', '` + docLegal + `', 1, gen_random_uuid(), 1, '', '', now())`,
			`INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename, labels) VALUES ('` + tenantA + `', '` +
				job + `', gen_random_uuid(), 'file:///legal', '` + secret + `', '{legal}')`,
			`INSERT INTO kb_uploads (tenant_id, job_id, content) VALUES ('` + tenantA + `', '` + job + `', '` +
				secret + `')`,
			`INSERT INTO artifact_files (tenant_id, id, kind, given, expires_at, labels) VALUES ('` + tenantA + `', '` +
				docLegal + `', 'upload', '{}', now(), '{legal}')`,
			`INSERT INTO artifact_pieces (tenant_id, file_id, start, content) VALUES ('` + tenantA + `', '` + docLegal +
				`', 0, '` + secret + `')`,
			`INSERT INTO kb_collections (tenant_id, id, name, labels) VALUES ('` + tenantA + `', '` + docLegal +
				`', '` + secret + `', '{legal}')`,
			`INSERT INTO kb_collection_documents (tenant_id, collection_id, id, document_id) VALUES ('` + tenantA +
				`', '` + docLegal + `', '` + docLegal + `', '` + docLegal + `')`,
			`INSERT INTO kb_files (tenant_id, id, filename, purpose, bytes, labels) VALUES ('` + tenantA + `', '` +
				docLegal + `', '` + secret + `', 'assistants', 1, '{legal}')`,
			`INSERT INTO kb_file_uploads (tenant_id, id, filename, purpose, expires_at, labels) VALUES ('` + tenantA +
				`', '` + docLegal + `', '` + secret + `', 'assistants', now(), '{legal}')`,
			`INSERT INTO kb_file_parts (tenant_id, id, file_id, labels) VALUES ('` + tenantA + `', '` + docLegal +
				`', '` + docLegal + `', '{legal}')`,
			`INSERT INTO kb_file_pieces (tenant_id, part_id, start, content) VALUES ('` + tenantA + `', '` + docLegal +
				`', 0, '` + secret + `')`,
			`INSERT INTO kb_file_batches (tenant_id, id, collection_id) VALUES ('` + tenantA + `', '` + docLegal +
				`', '` + docLegal + `')`,
			`INSERT INTO kb_collection_points (tenant_id, collection_id, document_id, chunk_id, half) VALUES ('` +
				tenantA + `', '` + docLegal + `', '` + docLegal + `', '` + chunk + `', ` + vector + `::halfvec)`,
		} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	})
	rows, err := super.Query(t.Context(),
		`SELECT DISTINCT c.relname::text FROM pg_class c JOIN pg_attribute i ON i.attrelid = c.oid
			AND i.attname = 'tenant_id'
	    JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
	   WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
	     AND (a.attname IN ('document_id', 'chunk_id', 'job_id', 'file_id', 'part_id', 'collection_id', 'labels')
	       OR c.relname = 'kb_documents')
	     ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	tables = slices.DeleteFunc(tables, func(s string) bool { return ofDocuments[s] != "" })
	if err != nil || len(tables) != 21 {
		t.Fatalf("%v know documents, %v", tables, err)
	}
	for _, table := range tables {
		var n int
		if err := super.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil || n == 0 {
			t.Fatalf("%s has no row: the test would see nothing in any case, %v", table, err)
		}
	}
	return d, app, tables
}

// within runs statements in a transaction with settings, and rolls it back.
func within(t *testing.T, conn *pgx.Conn, settings map[string]string, fn func(pgx.Tx)) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if _, err := tx.Exec(t.Context(), `SELECT set_config($1, $2, true)`, name, settings[name]); err != nil {
			t.Fatal(err)
		}
	}
	fn(tx)
}

// TestLabelsHideEveryRow reads a labelled document's rows in every table, as every tenant and with all kinds of labels.
func TestLabelsHideEveryRow(t *testing.T) {
	d, app, tables := labelled(t)
	for _, c := range []struct {
		name, tenant, labels string
		seen                 bool
	}{
		{"not set", tenantA, "unset", false}, {"none", tenantA, "", false}, {"an empty list", tenantA, "{}", false},
		{"another label", tenantA, "{hr,board}", false}, {"its label in capitals", tenantA, "{LEGAL}", false},
		{"a part of it", tenantA, "{leg}", false}, {"a list with a star", tenantA, "{*}", false},
		{"NULL in the list", tenantA, "{NULL}", false},
		{"its label", tenantA, "{hr,legal}", true}, {"its label, quoted", tenantA, `{"legal"}`, true},
		{"every label", tenantA, "*", true},
		{"its label as another tenant", tenantB, "{legal}", false}, {"every label as another tenant", tenantB,
			"*", false},
		{"every label and no tenant", "", "*", false},
	} {
		settings := map[string]string{"app.current_tenant": c.tenant, "app.current_labels": c.labels}
		if c.labels == "unset" {
			delete(settings, "app.current_labels")
		}
		conn := testkit.Connect(t, d.URL("konstruct_app"))
		for _, table := range tables {
			within(t, conn, settings, func(tx pgx.Tx) {
				var n int
				if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil ||
					n > 0 != c.seen {
					t.Errorf("%s: %d rows of %s, %v", c.name, n, table, err)
				}
				// A row that is not visible can't be changed, deleted or locked either.
				tag, err := tx.Exec(t.Context(), `UPDATE `+table+` SET tenant_id = tenant_id`)
				if err != nil || tag.RowsAffected() > 0 != c.seen {
					t.Errorf("%s: %s: %v, %v", c.name, table, tag, err)
				}
				if tag, err = tx.Exec(t.Context(), `DELETE FROM `+table); err != nil ||
					tag.RowsAffected() > 0 != c.seen {
					t.Errorf("%s: %s: %v, %v", c.name, table, tag, err)
				}
			})
		}
	}
	for _, labels := range []string{"legal", "{legal", "**", `{"legal}`, "{{legal},{hr}}x"} {
		within(t, app, map[string]string{"app.current_tenant": tenantA, "app.current_labels": labels}, func(tx pgx.Tx) {
			var n int
			if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM kb_texts`).Scan(&n); err == nil {
				t.Errorf("%s is no list, and %d rows are seen by it", labels, n)
			}
		})
	}
}

// TestNobodyWritesPastTheirLabels writes rows of a hidden document, labels that the writer does not have, and a job for
// somebody with more labels.
func TestNobodyWritesPastTheirLabels(t *testing.T) {
	d, _, _ := labelled(t)
	const id = "aaaaaaaa-0000-4000-8000-0000000000aa"
	for name, sql := range map[string]string{
		"a passage of it": `INSERT INTO kb_chunks (tenant_id, document_id, content, embedding) VALUES ($1, '` +
			docLegal + `', 'x', ` + vector + `)`,
		"a text of it": `INSERT INTO kb_texts (tenant_id, document_id, content) VALUES ($1, '` + docLegal +
			`', 'x') ON CONFLICT (tenant_id, document_id) DO UPDATE SET content = 'x'`,
		"a version of it": `INSERT INTO kb_versions (tenant_id, document_id, version, agent_id, bytes, content_sha256,
			recipe,
			ingested_at) VALUES ($1, '` + docLegal + `', 2, gen_random_uuid(), 1, '', '', now())`,
		"its source": `INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, recipe)
			VALUES ($1, '` + docLegal +
			`', 'file:///other', 1, sha256('x'), 'r') ON CONFLICT (tenant_id, document_id) DO UPDATE SET labels = '{}'`,
		"a label not held": `WITH d AS (INSERT INTO kb_documents (tenant_id, id, agent_id) VALUES ($1, '` + id +
			`', gen_random_uuid())) INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, ` +
			`recipe, labels) VALUES ($1, '` + id + `', 'x', 1, sha256('x'), 'r', '{legal}')`,
		"one held and one not": `WITH d AS (INSERT INTO kb_documents (tenant_id, id, agent_id) VALUES ($1, '` + id +
			`', gen_random_uuid())) INSERT INTO kb_sources (tenant_id, document_id, source, bytes, content_sha256, ` +
			`recipe, labels) VALUES ($1, '` + id + `', 'x', 1, sha256('x'), 'r', '{hr,legal}')`,
		"a job with a label": `INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename, labels)
			VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'x', 'x', '{hr,legal}')`,
		"a job that sees more": `INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename, sees)
			VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'x', 'x', '{hr,legal}')`,
		"a job that sees all": `INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename, sees)
			VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'x', 'x', '{*}')`,
		"a job of its source": `INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename)
			VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'file:///legal', 'x')`,
		"an upload with one": `INSERT INTO artifact_files (tenant_id, id, kind, given, expires_at, labels)
			VALUES ($1, gen_random_uuid(), 'upload', '{}', now(), '{legal}')`,
		"a stored file with one": `INSERT INTO kb_files (tenant_id, id, filename, purpose, bytes, labels)
			VALUES ($1, gen_random_uuid(), 'x', 'assistants', 1, '{legal}')`,
		"an upload of parts with one": `INSERT INTO kb_file_uploads
			(tenant_id, id, filename, purpose, expires_at, labels)
			VALUES ($1, gen_random_uuid(), 'x', 'assistants', now(), '{legal}')`,
		"a piece of its stored file": `INSERT INTO kb_file_pieces (tenant_id, part_id, start, content) VALUES ($1, '` +
			docLegal + `', 1, 'x')`,
		"a batch in its collection": `INSERT INTO kb_file_batches (tenant_id, id, collection_id)
			VALUES ($1, gen_random_uuid(), '` + docLegal + `')`,
		"an entry of its stored file": `WITH c AS (INSERT INTO kb_collections (tenant_id, id) VALUES ($1, '` + id + `'))
			INSERT INTO kb_collection_documents (tenant_id, collection_id, id, file_id)
			VALUES ($1, '` + id + `', '` + docLegal + `', '` + docLegal + `')`,
		"a piece of its upload": `INSERT INTO artifact_pieces (tenant_id, file_id, start, content) VALUES ($1, '` +
			docLegal + `', 1, 'x')`,
		"a vector of it": `INSERT INTO kb_vectors (tenant_id, chunk_id, model, embedding) VALUES ($1, '` +
			docLegal[:len(docLegal)-1] + `e', 'm', '[1,2]') ON CONFLICT DO NOTHING`,
	} {
		within(t, testkit.Connect(t, d.URL("konstruct_app")),
			map[string]string{"app.current_tenant": tenantA, "app.current_labels": "{hr}"}, func(tx pgx.Tx) {
				if tag, err := tx.Exec(t.Context(), sql, tenantA); err == nil ||
					!strings.Contains(err.Error(), "row-level security") {
					t.Errorf("%s: %v, %v", name, tag, err)
				}
			})
	}
}

// TestNobodyAddsLabelsThatTheyLack updates labels of rows that the writer sees: those that they lack can't be added,
// and those that are there already can be kept.
func TestNobodyAddsLabelsThatTheyLack(t *testing.T) {
	d, _, _ := labelled(t)
	refused, allowed := "row-level security", ""
	for _, c := range []struct{ labels, sql, want string }{
		{"{legal}", `UPDATE kb_sources SET labels = '{legal,hr}'`, refused},
		{"{legal}", `UPDATE kb_jobs SET labels = '{legal,hr}'`, refused},
		{"{legal}", `UPDATE kb_jobs SET sees = '{*}'`, refused},
		{"{legal}", `UPDATE kb_jobs SET sees = '{hr}'`, refused},
		{"{legal}", `UPDATE artifact_files SET labels = '{legal,hr}'`, refused},
		{"{legal}", `UPDATE kb_files SET labels = '{legal,hr}'`, refused},
		{"{legal}", `UPDATE kb_file_parts SET labels = '{legal,hr}'`, refused},
		{"{legal}", `INSERT INTO kb_sources SELECT * FROM kb_sources
			ON CONFLICT (tenant_id, document_id) DO UPDATE SET labels = '{legal,hr}'`, refused},
		{"{legal}", `UPDATE kb_sources SET title = 'x', labels = '{legal}'`, allowed},
		{"{legal}", `UPDATE kb_jobs SET sees = '{legal}'`, allowed},
		{"{hr,legal}", `UPDATE kb_sources SET labels = '{legal,hr}'`, allowed},
		{"*", `UPDATE kb_sources SET labels = '{board}'`, allowed},
	} {
		within(t, testkit.Connect(t, d.URL("konstruct_app")),
			map[string]string{"app.current_tenant": tenantA, "app.current_labels": c.labels}, func(tx pgx.Tx) {
				tag, err := tx.Exec(t.Context(), c.sql)
				if c.want == allowed && (err != nil || tag.RowsAffected() != 1) ||
					c.want == refused && (err == nil || !strings.Contains(err.Error(), refused)) {
					t.Errorf("%s with %s: %v, %v", c.sql, c.labels, tag, err)
				}
			})
	}
	// A writer with one of two labels changes the document, and keeps the other.
	within(t, testkit.Connect(t, d.URL("konstruct_app")),
		map[string]string{"app.current_tenant": tenantA, "app.current_labels": "*"}, func(tx pgx.Tx) {
			for _, sql := range []string{`UPDATE kb_sources SET labels = '{legal,hr}'`,
				`SET LOCAL app.current_labels = '{hr}'`, `UPDATE kb_sources SET title = 'x', labels = '{hr,legal}'`} {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					t.Errorf("%s: %v", sql, err)
				}
			}
		})
}

// TestWhatIsHiddenIsTheTenantsOwn calls the functions that list hidden documents as other tenants and with forged
// arguments.
func TestWhatIsHiddenIsTheTenantsOwn(t *testing.T) {
	d, app, _ := labelled(t)
	for _, f := range []string{"kb_hidden_documents", "kb_hidden_passages", "kb_hidden_sources", "kb_hidden_files"} {
		for arg, hidden := range map[string]int{`'{hr}'`: 1, `'{}'`: 1, `NULL`: 1, `'{NULL}'`: 1, `'{legal}'`: 0,
			`'{{hr,legal}}'`: 0, `array_fill('x'::text, '{100000}')`: 1} {
			for tenant, own := range map[string]bool{tenantA: true, tenantB: false, "": false,
				"99999999-9999-4999-8999-999999999999": false} {
				within(t, app, map[string]string{"app.current_tenant": tenant}, func(tx pgx.Tx) {
					want, n := hidden, 0
					if !own {
						want = 0
					}
					if err := tx.QueryRow(t.Context(), fmt.Sprintf(`SELECT count(*) FROM %s(%s::text[])`, f, arg)).
						Scan(&n); err != nil || n != want {
						t.Errorf("%s(%s) as %q: %d, want %d, %v", f, arg, tenant, n, want, err)
					}
				})
			}
		}
	}
	// If the owner is a member of the app's role, which labels restrict, the functions still list everything for it.
	super := testkit.Connect(t, d.SuperuserURL())
	if _, err := super.Exec(t.Context(), `GRANT konstruct_app TO konstruct_owner WITH INHERIT TRUE`); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := super.Exec(t.Context(), `REVOKE konstruct_app FROM konstruct_owner`); err != nil {
			t.Error(err)
		}
	}()
	within(t, testkit.Connect(t, d.URL("konstruct_app")),
		map[string]string{"app.current_tenant": tenantA, "app.current_labels": "{hr}"}, func(tx pgx.Tx) {
			var n int
			if err := tx.QueryRow(t.Context(),
				`SELECT (SELECT count(*) FROM kb_texts) + (SELECT count(*) FROM kb_chunks) + (SELECT count(*)
			FROM kb_terms)`).Scan(&n); err != nil || n != 0 {
				t.Errorf("with the owner a member: %d rows, %v", n, err)
			}
		})
	// And foreign keys delete all of a document's rows.
	within(t, testkit.Connect(t, d.URL("konstruct_app")),
		map[string]string{"app.current_tenant": tenantA, "app.current_labels": "{legal}"}, func(tx pgx.Tx) {
			if _, err := tx.Exec(t.Context(), `DELETE FROM kb_documents WHERE id = '`+docLegal+`'`); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := tx.QueryRow(t.Context(),
				`SELECT set_config('app.current_labels', '*', true) IS NULL, (SELECT count(*)
			FROM kb_chunks) + (SELECT count(*) FROM kb_points) + (SELECT count(*) FROM kb_terms) + (SELECT count(*)
			FROM kb_texts)`).Scan(new(bool), &n); err != nil || n != 0 {
				t.Errorf("%d rows of a deleted document, %v", n, err)
			}
		})
}
