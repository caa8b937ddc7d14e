package tenantdb_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

var update = flag.Bool("update", false, "write catalog.txt as the migrations make it")

// TestTheCatalogIsWhatTheMigrationsMake holds catalog.txt against a database that was just migrated; with -update it
// writes it.
func TestTheCatalogIsWhatTheMigrationsMake(t *testing.T) {
	got, err := tenantdb.CatalogText(t.Context(), testkit.Door(t))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("catalog.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("catalog.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("the migrations make another catalog (go test ./tenantdb -run Catalog -update writes it; -want "+
			"+got):\n%s", d)
	}
}

// TestEveryChangeOfTheCatalogIsNamed changes what is ours in each way, as a superuser past the guard, and holds that
// exactly that is named.
func TestEveryChangeOfTheCatalogIsNamed(t *testing.T) {
	const refuses = `RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`
	for name, c := range map[string]struct {
		sql  string
		want []string // the beginning of each difference
	}{
		"a function's body": {`CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql
			SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'`,
			[]string{"function audit_refuse() was changed"}},
		"a function's settings": {`ALTER FUNCTION audit_seal() RESET search_path`,
			[]string{"function audit_seal() was changed"}},
		"a function's owner": {`ALTER FUNCTION audit_seal() OWNER TO postgres`,
			[]string{"function audit_seal() was changed"}},
		"a function's grants": {`GRANT EXECUTE ON FUNCTION audit_epoch_now() TO PUBLIC`,
			[]string{"grant function audit_epoch_now() to PUBLIC was added"}},
		"a second function": {`CREATE FUNCTION audit_refuse(integer) RETURNS integer LANGUAGE sql RETURN 1`,
			[]string{"function audit_refuse(integer) was added", "grant function audit_refuse(integer) to PUBLIC"}},
		"a function dropped": {`DROP FUNCTION audit_figures`,
			[]string{"function audit_figures(", "grant function audit_figures("}},
		"another trigger": {`CREATE FUNCTION swap() ` + refuses +
			`; CREATE TRIGGER a_swap BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION swap()`,
			[]string{"trigger audit_events.a_swap was added"}},
		"a trigger on documents": {`CREATE FUNCTION swap() ` + refuses +
			`; CREATE TRIGGER a_swap BEFORE INSERT ON kb_chunks FOR EACH ROW EXECUTE FUNCTION swap()`,
			[]string{"trigger kb_chunks.a_swap was added"}},
		"a trigger that rests": {`ALTER TABLE audit_heads DISABLE TRIGGER audit_refuse`,
			[]string{"trigger audit_heads.audit_refuse was changed"}},
		"a trigger's condition": {
			`CREATE OR REPLACE TRIGGER audit_refuse BEFORE UPDATE ON audit_keys FOR EACH STATEMENT EXECUTE FUNCTION ` +
				`audit_refuse(); ALTER TABLE audit_keys ENABLE ALWAYS TRIGGER audit_refuse`,
			[]string{"trigger audit_keys.audit_refuse was changed"}},
		"a rule": {
			`CREATE RULE away AS ON INSERT TO audit_events WHERE NEW.action_type = 'x' DO INSTEAD NOTHING`,
			[]string{"rule audit_events.away was added"}},
		"a policy": {`CREATE POLICY open ON audit_events FOR SELECT USING (true)`,
			[]string{"policy audit_events.open was added"}},
		"a policy's condition": {`ALTER POLICY tenant_isolation ON kb_documents USING (true)`,
			[]string{"policy kb_documents.tenant_isolation was changed"}},
		"a policy's roles": {`ALTER POLICY notary_reads ON audit_seals TO konstruct_notary, konstruct_app`,
			[]string{"policy audit_seals.notary_reads was changed"}},
		"row security off": {`ALTER TABLE access_keys DISABLE ROW LEVEL SECURITY`,
			[]string{"relation access_keys was changed"}},
		"a grant": {`GRANT UPDATE ON audit_heads TO konstruct_notary`,
			[]string{"grant table audit_heads to konstruct_notary was changed"}},
		"a grant to a stranger": {`GRANT SELECT ON audit_events TO pg_monitor`,
			[]string{"grant table audit_events to pg_monitor was added"}},
		"a grant on a column": {`GRANT SELECT (salt) ON audit_seals TO konstruct_app`,
			[]string{"grant column audit_seals.salt to konstruct_app was added"}},
		"a grant taken away": {`REVOKE INSERT ON audit_tiles FROM konstruct_notary`,
			[]string{"grant table audit_tiles to konstruct_notary was changed"}},
		"a default": {`ALTER TABLE audit_events ALTER COLUMN created_at SET DEFAULT '2020-01-01'`,
			[]string{"column audit_events.created_at was changed"}},
		"a column": {`ALTER TABLE audit_events ADD COLUMN note text`,
			[]string{"column audit_events.note was added"}},
		"NOT NULL": {`ALTER TABLE audit_seals ALTER COLUMN salt DROP NOT NULL`,
			[]string{"column audit_seals.salt was changed"}},
		"a constraint dropped": {`ALTER TABLE audit_logs DROP CONSTRAINT no_tenant_is_the_super_log`,
			[]string{"constraint audit_logs.no_tenant_is_the_super_log is gone"}},
		"a constraint added": {
			`ALTER TABLE audit_events ADD CONSTRAINT short CHECK (length(action_type) < 9) NOT VALID`,
			[]string{"constraint audit_events.short was added"}},
		"an index dropped": {`DROP INDEX audit_seals_order`,
			[]string{"index audit_seals.audit_seals_order is gone"}},
		"an index that refuses": {`CREATE UNIQUE INDEX once ON audit_events (tenant_id, user_id)`,
			[]string{"index audit_events.once was added"}},
		"an index that computes": {`CREATE INDEX lower ON audit_events (lower(user_id))`,
			[]string{"index audit_events.lower was added"}},
		"an index of an operator's": {`CREATE INDEX mine ON audit_events (tenant_id, user_id)`, nil},
		"an index of a tenant's": {`CREATE INDEX ix_kb_points_11111111111141118111111111111111 ON kb_points
			USING hnsw (half halfvec_cosine_ops) WHERE tenant_id = '11111111-1111-4111-8111-111111111111'`, nil},
		"a table of an operator's": {
			`CREATE TABLE reports (a integer); CREATE FUNCTION report() RETURNS integer LANGUAGE sql RETURN 1`, nil},
		"a child with more rows": {`CREATE TABLE more () INHERITS (audit_events)`,
			[]string{"parent audit_events was added"}},
		"an owner": {`ALTER TABLE audit_keys OWNER TO konstruct_app`,
			[]string{"relation audit_keys was changed"}},
		"an event trigger rests": {`ALTER EVENT TRIGGER audit_guard_ddl DISABLE`,
			[]string{"guard event trigger audit_guard_ddl was changed"}},
		"event triggers dropped": {`DROP EVENT TRIGGER audit_guard_ddl; DROP EVENT TRIGGER audit_guard_drop`,
			[]string{"guard event trigger audit_guard_ddl is gone", "guard event trigger audit_guard_drop is gone"}},
		"the guard whole": {
			`DROP EVENT TRIGGER audit_guard_ddl; DROP EVENT TRIGGER audit_guard_drop; DROP FUNCTION audit_guard`,
			[]string{"guard audit_guard() is gone", "guard event trigger audit_guard_ddl is gone",
				"guard event trigger audit_guard_drop is gone"}},
		"a sequence": {`GRANT ALL ON SEQUENCE river_job_id_seq TO konstruct_app`,
			[]string{"grant table river_job_id_seq to konstruct_app was added"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := testkit.Database(t)
			door := testkit.DoorOf(t, d)
			testkit.Super(t, d, `SET konstruct.allow_ddl = on; `+c.sql)
			got, err := door.Catalog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ok := len(got.Differences) == len(c.want)
			for i := range min(len(got.Differences), len(c.want)) {
				ok = ok && strings.HasPrefix(got.Differences[i].String(), c.want[i])
			}
			if !ok && name != "an owner" {
				t.Errorf("got %v, want %v", got.Differences, c.want)
			} else if name == "an owner" &&
				(len(got.Differences) == 0 || !slices.ContainsFunc(got.Differences, func(d tenantdb.Difference) bool {
					return strings.HasPrefix(d.String(), c.want[0])
				})) {
				t.Errorf("got %v, want %v", got.Differences, c.want)
			}
		})
	}
}

// TestARoleThatWasGivenMoreIsNamed has a cluster of its own: roles are the whole cluster's.
func TestARoleThatWasGivenMoreIsNamed(t *testing.T) {
	d := testkit.Own(t)
	testkit.Super(t, d, `ALTER ROLE konstruct_app BYPASSRLS`)
	got, err := testkit.DoorOf(t, d).Catalog(t.Context())
	if err != nil || len(got.Differences) != 1 ||
		!strings.HasPrefix(got.Differences[0].String(), "role konstruct_app was changed") {
		t.Errorf("%v, %v", got.Differences, err)
	}
}

// TestAnotherSchemaStandsForNothing renames ours away and puts another in its place.
func TestAnotherSchemaStandsForNothing(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	testkit.Super(t, d,
		`SET konstruct.allow_ddl = on; ALTER SCHEMA public RENAME TO kept; CREATE SCHEMA public;
			GRANT USAGE ON SCHEMA public TO konstruct_app; CREATE VIEW public.audit_events AS SELECT *
			FROM kept.audit_events`)
	got, err := door.Catalog(t.Context())
	if err != nil || len(got.Differences) < 100 {
		t.Errorf("%d differences, %v", len(got.Differences), err)
	}
}

// TestTheGuardMayNeverHaveBeenInstalled asks a database that only its owner migrated.
func TestTheGuardMayNeverHaveBeenInstalled(t *testing.T) {
	d := testkit.OwnEmpty(t)
	if err := migrations.Up(t.Context(), d.URL("konstruct_owner"), func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	checks, err := testkit.DoorOf(t, d).Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := checks[len(checks)-1]
	for _, c := range checks {
		if !c.OK || c.Actual == "absent" {
			t.Errorf("%+v", c)
		}
	}
	if last.Name != "guard against quiet DDL" || !strings.Contains(last.Actual, "never installed") {
		t.Errorf("the last check is %+v", last)
	}
}
