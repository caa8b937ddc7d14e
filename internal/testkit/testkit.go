// Package testkit gives a test a migrated database of its own in one line: a clone of a template on a
// private cluster that the package's tests share.
package testkit

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

// shared is the cluster of this test process, started by the first test that wants a database.
var shared struct {
	sync.Mutex
	cluster *devpg.Cluster
	dir     string
	made    int
}

// Main runs a package's tests and then stops the cluster they shared. A package that wants a database
// calls it from TestMain.
func Main(m interface{ Run() int }) { os.Exit(Run(m)) }

// Run is Main for a package that has more to do before it exits.
func Run(m interface{ Run() int }) int {
	code := m.Run()
	if shared.cluster != nil {
		shared.cluster.Stop()
		_ = os.RemoveAll(shared.dir)
	}
	return code
}

// DB is a database of one test.
type DB struct {
	Name    string
	Cluster *devpg.Cluster
	Dir     string // the cluster's data folder
}

// URL is the connection URL of a role.
func (d *DB) URL(role string) string { return d.Cluster.URL(role, d.Name) }

// SuperuserURL is the superuser's.
func (d *DB) SuperuserURL() string { return d.Cluster.SuperuserURL(d.Name) }

// Database makes a migrated database that is dropped with the test; a failed test's is kept while the
// package's tests run, and its URL logged.
func Database(t testing.TB) *DB {
	t.Helper()
	d, err := Clone("konstruct")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the database is kept until the package's tests end: %s", d.SuperuserURL())
			return
		}
		d.drop(t)
	})
	return d
}

// Empty makes a database without our schema; pgvector is there.
func Empty(t testing.TB) *DB {
	t.Helper()
	d, err := Clone("template1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.drop(t) })
	return d
}

// Clone makes a database from a template, konstruct being the migrated one. It goes with the cluster;
// for runnable examples, which have no test to end with.
func Clone(template string) (*DB, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		if err := startShared(); err != nil {
			return nil, err
		}
	}
	shared.made++
	d := &DB{Name: fmt.Sprintf("t%d", shared.made), Cluster: shared.cluster, Dir: shared.dir}
	return d, d.admin("CREATE DATABASE " + d.Name + " TEMPLATE " + template + " OWNER konstruct_owner")
}

func startShared() error {
	dir, err := os.MkdirTemp("", "konstruct-test-")
	if err != nil {
		return err
	}
	shared.dir = dir
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL runs as another user when we are root
		return err
	}
	c, err := start(dir)
	if err != nil {
		return err
	}
	shared.cluster = c
	return migrate(c)
}

func (d *DB) drop(t testing.TB) {
	if err := d.admin("DROP DATABASE IF EXISTS " + d.Name + " WITH (FORCE)"); err != nil {
		t.Error(err)
	}
}

// admin runs one statement as the superuser, beside the database.
func (d *DB) admin(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.Cluster.SuperuserURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// Own starts a migrated cluster for this test alone, which may kill it.
func Own(t testing.TB) *DB {
	t.Helper()
	dir := t.TempDir()
	// PostgreSQL runs as another user when we are root, and must pass through.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return OwnIn(t, dir)
}

// OwnIn is Own with its data in a folder of the test's choice.
func OwnIn(t testing.TB, dir string) *DB {
	t.Helper()
	c, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &DB{Name: devpg.Database, Cluster: c, Dir: dir}
	t.Cleanup(func() { d.Cluster.Stop() }) // the one that runs then
	if err := migrate(c); err != nil {
		t.Fatal(err)
	}
	return d
}

func start(dir string) (*devpg.Cluster, error) {
	in, err := devpg.Find(devpg.AssetsDir())
	if err != nil {
		return nil, err
	}
	return devpg.Start(context.Background(), in, dir)
}

func migrate(c *devpg.Cluster) error {
	if err := migrations.Up(context.Background(), c.URL("konstruct_owner", devpg.Database),
		func(int64, int64) {}); err != nil {
		return err
	}
	return migrations.Guard(context.Background(), c.SuperuserURL(devpg.Database))
}

// Connect opens one connection that closes with the test.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Owner runs one statement as the owner of the schema, with the guard's switch off as migrations have it.
func Owner(t testing.TB, d *DB, sql string) {
	t.Helper()
	if _, err := Connect(t, With(d.URL("konstruct_owner"), "konstruct.allow_ddl", "on")).
		Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Super runs one statement as the superuser, past row security and, unlike Owner's, with the guard's switch as it is.
func Super(t testing.TB, d *DB, sql string) {
	t.Helper()
	if _, err := Connect(t, d.SuperuserURL()).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Build builds the program and returns where it is.
func Build(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "konstruct")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"github.com/konstruct/konstruct/cmd/konstruct").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// Restart kills the test's own cluster and starts it again, at another port.
func (d *DB) Restart(t testing.TB) {
	t.Helper()
	d.Cluster.Kill()
	c, err := start(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	d.Cluster = c
}

// With sets a setting in a connection URL.
func With(raw, setting, value string) string {
	sep := "?"
	if strings.Contains(raw, "?") {
		sep = "&"
	}
	return raw + sep + url.QueryEscape(setting) + "=" + url.QueryEscape(value)
}

// DoorOf opens the tenant door of a database, as konstruct_app.
func DoorOf(t testing.TB, d *DB) *tenantdb.Door {
	t.Helper()
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	return door
}

// Door gives the tenant door of a database of its own.
func Door(t testing.TB) *tenantdb.Door { t.Helper(); return DoorOf(t, Database(t)) }

// Model loads the local model and its tokenizer; it closes with the test.
func Model(t testing.TB) *embed.Local {
	t.Helper()
	m, err := embed.FindModel(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := embed.OpenLocal(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
