// Package trailkit is a trail under test: a database of its own, a notary with its key and anchor, and what a test does
// with them: log, sign, verify, attack. It is for the tests of notary and of verify.
package trailkit

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
)

// Tenants of the tests.
var (
	TenantA = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	TenantB = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

// Name is the notary's.
const Name = "konstruct.example/test"

// Trail is a trail under test.
type Trail struct {
	*testkit.DB
	T      testing.TB
	Dir    string             // of the notary's key and anchor
	Logs   *tenantdb.Evidence // as konstruct_notary
	Door   *tenantdb.Door     // as konstruct_app
	Config notary.Config
}

// Open opens a trail on a fresh database.
func Open(t testing.TB) *Trail { return OpenOn(t, testkit.Database(t)) }

// OpenOn opens a trail on a database that is there.
func OpenOn(t testing.TB, d *testkit.DB) *Trail {
	t.Helper()
	o := &Trail{DB: d, T: t, Dir: t.TempDir(), Door: testkit.DoorOf(t, d)}
	o.Logs = o.OpenLogs()
	o.Config = notary.Config{DB: o.Logs, Keys: notary.Keys{File: filepath.Join(o.Dir, "key"), Name: Name},
		Anchor: notary.FileAnchor(filepath.Join(o.Dir, "checkpoint")),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	return o
}

// OpenLogs connects once more as konstruct_notary.
func (o *Trail) OpenLogs() *tenantdb.Evidence {
	o.T.Helper()
	db, err := tenantdb.OpenEvidence(o.T.Context(), o.URL("konstruct_notary"))
	if err != nil {
		o.T.Fatal(err)
	}
	o.T.Cleanup(db.Close)
	return db
}

// Log writes n events of a tenant.
func (o *Trail) Log(tenant uuid.UUID, n int) []uuid.UUID {
	o.T.Helper()
	events := make([]audit.Event, n)
	for i := range events {
		events[i] = audit.Event{Action: "llm_call", UserID: "ada", Input: fmt.Sprintf("question %d", i),
			Output: "answer", Latency: time.Millisecond, Metadata: []byte(fmt.Sprintf(`{"n":%d}`, i))}
	}
	var ids []uuid.UUID
	for part := range slices.Chunk(events, audit.MaxBatch) {
		some, err := audit.LogBatch(o.T.Context(), o.Door, tenant, part)
		if err != nil {
			o.T.Fatal(err)
		}
		ids = append(ids, some...)
	}
	return ids
}

// Round runs a new notary until nothing more waits.
func (o *Trail) Round() {
	o.T.Helper()
	if err := o.TryRound(); err != nil {
		o.T.Fatal(err)
	}
}

// TryRound runs a new notary until nothing more waits, and returns its error.
func (o *Trail) TryRound() error {
	n, err := notary.New(o.Config)
	if err != nil {
		return err
	}
	defer n.Close()
	for more := true; more; {
		if more, err = n.Round(o.T.Context()); err != nil {
			return err
		}
	}
	return nil
}

// One asks the database for one value, as a superuser.
func One[T any](o *Trail, sql string, args ...any) (v T) {
	o.T.Helper()
	if err := o.Super().QueryRow(o.T.Context(), sql, args...).Scan(&v); err != nil {
		o.T.Fatalf("%s: %v", sql, err)
	}
	return v
}

// Super connects as a superuser.
func (o *Trail) Super() *pgx.Conn { return testkit.Connect(o.T, o.SuperuserURL()) }

// Key is the notary's public key.
func (o *Trail) Key() ledger.Key {
	o.T.Helper()
	s, err := o.Config.Keys.Load()
	if err != nil {
		o.T.Fatal(err)
	}
	return s.Key
}
