package migrations_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/seed"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

func quiet(int64, int64) {}

// atSeed returns a database at the seed's revision with n events of each of two tenants.
func atSeed(t *testing.T, n int) *testkit.DB {
	t.Helper()
	d := testkit.Empty(t)
	super := testkit.Connect(t, d.SuperuserURL())
	if _, err := super.Exec(t.Context(),
		`GRANT USAGE, CREATE ON SCHEMA public TO konstruct_owner;
			GRANT USAGE ON SCHEMA public TO konstruct_app`); err != nil {
		t.Fatal(err)
	}
	if _, err := testkit.Connect(t, d.URL("konstruct_owner")).Exec(t.Context(), seed.SQL); err != nil {
		t.Fatal(err)
	}
	app := testkit.Connect(t, d.URL("konstruct_app"))
	for _, tenant := range []string{tenantA, tenantB} {
		as(t, app, tenant, func(tx pgx.Tx) {
			if _, err := tx.Exec(t.Context(), fmt.Sprintf(`
			  INSERT INTO audit_events (tenant_id, agent_id, user_id, action_type, input_summary, latency_ms, metadata,
			  created_at)
			  SELECT '%[1]s', '%[1]s', nullif('user ' || i %% 5, 'user 0'), 'llm_call', 'in ' || i || ' 漢字',
			  nullif(i %% 7, 0), jsonb_build_object('n', i / 7.0), '2026-01-01'::timestamptz + i * interval '1.000007 s'
			    FROM generate_series(1, %[2]d) i;
			  INSERT INTO kb_documents (id, tenant_id, agent_id, filename) VALUES ('%[1]s', '%[1]s', '%[1]s',
			  'seed.txt');
			  INSERT INTO kb_chunks (tenant_id, document_id, content, chunk_index, embedding) SELECT '%[1]s', '%[1]s',
			  'chunk ' || i, i, %[3]s FROM generate_series(1, 20) i`, tenant, n, vector)); err != nil {
				t.Fatal(err)
			}
		})
	}
	return d
}

// digest returns a hash of the seed's columns of all rows.
func digest(t *testing.T, d *testkit.DB) (s string) {
	t.Helper()
	err := testkit.Connect(t, d.SuperuserURL()).QueryRow(t.Context(), `
	  SELECT (SELECT md5(string_agg(e::text, '|' ORDER BY id)) FROM (SELECT id, tenant_id, agent_id, user_id,
	  action_type, input_summary, output_summary, latency_ms, metadata, created_at FROM audit_events) e)
	      || (SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM (SELECT id, tenant_id, document_id, content,
	      chunk_index, created_at, embedding FROM kb_chunks) c)
	      || (SELECT md5(string_agg(k::text, '|' ORDER BY id)) FROM (SELECT id, tenant_id, agent_id, filename,
	      source_url, content_type, created_at FROM kb_documents) k)`).Scan(&s)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifyAll(t *testing.T, d *testkit.DB) verify.Report {
	t.Helper()
	db, err := tenantdb.OpenEvidence(t.Context(), d.URL("konstruct_notary"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := verify.Events(t.Context(), db, nil, func(f verify.Finding) { t.Errorf("%+v", f) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAdoptionSurvivesBeingKilled kills `konstruct migrate up` three times while it seals, and then lets it finish.
func TestAdoptionSurvivesBeingKilled(t *testing.T) {
	const n = 25_000
	d := atSeed(t, n)
	before := digest(t, d)
	bin := testkit.Build(t)
	up := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), bin, "migrate", "up")
		cmd.Env = append(os.Environ(), "KONSTRUCT_OWNER_DATABASE_URL="+d.URL("konstruct_owner"))
		return cmd
	}
	super := testkit.Connect(t, d.SuperuserURL())
	sealed := func() (seals int) {
		var there bool
		if err := super.QueryRow(t.Context(), `SELECT to_regclass('audit_seals') IS NOT NULL`).
			Scan(&there); err != nil {
			t.Fatal(err)
		}
		if there {
			if err := super.QueryRow(t.Context(), `SELECT count(*) FROM audit_seals`).Scan(&seals); err != nil {
				t.Fatal(err)
			}
		}
		return seals
	}
	for range 3 {
		cmd, at := up(), sealed()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for sealed() == at && len(ended) == 0 {
			time.Sleep(time.Millisecond)
		}
		_ = cmd.Process.Kill()
		if err := <-ended; err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("it ended by itself (%v) with %d of %d sealed", err, sealed(), 2*n)
		}
	}
	if at := sealed(); at == 0 || at >= 2*n {
		t.Fatalf("killed with %d of %d sealed", at, 2*n)
	}
	if out, err := up().CombinedOutput(); err != nil || !strings.Contains(string(out), "up to date") {
		t.Fatalf("%v: %s", err, out)
	}
	if r := verifyAll(t, d); r.Events != 2*n || !r.OK() {
		t.Errorf("%+v", r)
	}
	if after := digest(t, d); after != before {
		t.Error("adoption changed rows")
	}
	checks, err := testkit.DoorOf(t, d).Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if !c.OK {
			t.Errorf("after adoption: %+v", c)
		}
	}
	var points, passages, terms int // the search tables' rows of the seed's chunks
	if err := super.QueryRow(t.Context(),
		`SELECT (SELECT count(*) FROM kb_points p JOIN kb_chunks c ON c.tenant_id = p.tenant_id
			AND c.document_id = p.document_id AND c.id = p.chunk_id
	    WHERE (c.embedding <=> p.half::vector(384)) < 0.001), (SELECT count(*) FROM kb_terms WHERE term = ''),
	    (SELECT count(*) FROM kb_terms
	    WHERE term = 'chunk')`).Scan(&points, &passages, &terms); err != nil || points != 40 || passages != 40 ||
		terms != 40 {
		t.Errorf("of 40 chunks %d have their vector, %d their words, %d the word that is in all: %v", points,
			passages, terms, err)
	}
	var later int
	if err := super.QueryRow(t.Context(), `SELECT count(*) FROM audit_seals WHERE mode = 1`).Scan(&later); err != nil ||
		later != 2*n {
		t.Errorf("%d events are marked as sealed on adoption, want %d: %v", later, 2*n, err)
	}
}

// TestAdoptionLetsWritersIn logs events while adoption seals. No insert waits longer than one batch takes, and each
// event is sealed when it is written.
func TestAdoptionLetsWritersIn(t *testing.T) {
	const n = 20_000
	d := atSeed(t, n)
	owner := d.URL("konstruct_owner")
	sealing, done := make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		done <- migrations.Up(context.Background(), owner, func(int64, int64) {
			if first {
				close(sealing)
				first = false
			}
		})
	}()
	<-sealing
	app, super, logged := testkit.Connect(t, d.URL("konstruct_app")), testkit.Connect(t, d.SuperuserURL()), 0
	for busy := true; busy; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			busy = false
		default:
		}
		var exclusive int
		if err := super.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE relation = 'audit_events'::regclass
			AND mode IN ('ExclusiveLock', 'AccessExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock')`).
			Scan(&exclusive); err != nil || exclusive > 0 {
			t.Errorf("%d locks keep writers out, %v", exclusive, err)
		}
		as(t, app, tenantA, func(tx pgx.Tx) {
			if _, err := tx.Exec(t.Context(),
				`SET LOCAL lock_timeout = '200ms'; INSERT INTO audit_events (tenant_id, action_type) VALUES ('`+tenantA+
					`', 'llm_call')`); err != nil {
				t.Error(err)
			}
		})
		logged++
	}
	if r := verifyAll(t, d); r.Events != int64(2*n+logged) || !r.OK() {
		t.Errorf("%+v after %d more events", r, logged)
	}
	t.Logf("%d events were logged while %d were sealed", logged, 2*n)
}

func TestCrossedKeysStopAdoptionBeforeItChangesAnything(t *testing.T) {
	d := atSeed(t, 10)
	app := testkit.Connect(t, d.URL("konstruct_app"))
	as(t, app, tenantB, func(tx pgx.Tx) {
		if _, err := tx.Exec(t.Context(),
			`INSERT INTO kb_chunks (tenant_id, document_id, content, embedding) VALUES ('`+tenantB+`', '`+tenantA+
				`', 'hangs on A', `+vector+`)`); err != nil {
			t.Fatal(err)
		}
	})
	before := digest(t, d)
	err := migrations.Up(t.Context(), d.URL("konstruct_owner"), quiet)
	if err == nil || !strings.Contains(err.Error(), "1 chunk(s) cross tenants") ||
		!strings.Contains(err.Error(), tenantB) {
		t.Errorf("error %v", err)
	}
	if digest(t, d) != before {
		t.Error("a refused adoption changed rows")
	}
	var key string
	if err := testkit.Connect(t, d.SuperuserURL()).
		QueryRow(t.Context(),
			`SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'kb_documents'::regclass
		AND contype = 'p'`).Scan(&key); err != nil || key != "PRIMARY KEY (id)" {
		t.Errorf("key %q, %v", key, err)
	}
}

func TestDownAndUpAgain(t *testing.T) {
	d := testkit.Database(t)
	s, err := migrations.Open(d.URL("konstruct_owner"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	steps, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if newest := steps[len(steps)-1].Version; newest != tenantdb.Schema {
		t.Errorf("the newest migration is %d, tenantdb.Schema says %d", newest, tenantdb.Schema)
	}
	for range steps {
		if name, err := s.Down(t.Context()); err != nil || name == "" {
			t.Fatalf("down: %q, %v", name, err)
		}
	}
	if name, err := s.Down(t.Context()); err != nil || name != "" {
		t.Errorf("down at 0: %q, %v", name, err)
	}
	if n, err := s.Up(t.Context(), quiet); err != nil || n != len(steps) {
		t.Fatalf("up: %d, %v", n, err)
	}
	door := testkit.DoorOf(t, d)
	checks, err := door.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if !c.OK {
			t.Errorf("%+v", c)
		}
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	d := testkit.Database(t)
	testkit.Owner(t, d, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`)
	if err := migrations.Up(t.Context(), d.URL("konstruct_owner"), quiet); err == nil ||
		!strings.Contains(err.Error(), "newer") {
		t.Errorf("error %v", err)
	}
	door := testkit.DoorOf(t, d)
	checks, err := door.Doctor(t.Context())
	if err != nil || checks[0].OK || !strings.Contains(checks[0].Fix, "newer") {
		t.Errorf("%+v, %v", checks[0], err)
	}
}
