// Package testkit gives a test a migrated database of its own in one line: a clone of a template on a private cluster
// that the package's tests share.
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

// shared is the test process's cluster. The first test that needs a database starts it.
var shared struct {
	sync.Mutex
	cluster *devpg.Cluster
	dir     string
	made    int
}

// Main runs a package's tests and then stops their shared cluster. A package that uses databases calls it from
// TestMain.
func Main(m interface{ Run() int }) { os.Exit(Run(m)) }

// Run is Main without the exit: it returns the exit code.
func Run(m interface{ Run() int }) int {
	code := m.Run()
	if shared.cluster != nil {
		shared.cluster.Stop()
		_ = os.RemoveAll(shared.dir)
	}
	return code
}

// DB is a test's database.
type DB struct {
	Name    string
	Cluster *devpg.Cluster
	Dir     string // the cluster's data folder
}

// URL returns a role's connection URL.
func (d *DB) URL(role string) string { return d.Cluster.URL(role, d.Name) }

// SuperuserURL returns the superuser's connection URL.
func (d *DB) SuperuserURL() string { return d.Cluster.SuperuserURL(d.Name) }

// Database creates a migrated database that is dropped when the test ends. If the test fails, the database is kept
// while the package's tests run, and its URL is logged.
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

// Empty creates a database with pgvector and without our schema.
func Empty(t testing.TB) *DB {
	t.Helper()
	d, err := Clone("template1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.drop(t) })
	return d
}

// Clone creates a database from a template; "konstruct" is the migrated one. It lives as long as the cluster. It is for
// runnable examples, which have no testing.TB.
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

// admin runs one statement as the superuser, connected to another database.
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
	// As root we run PostgreSQL as another user, which must be able to enter the folder.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return OwnIn(t, dir)
}

// OwnIn is Own with the data in a given folder.
func OwnIn(t testing.TB, dir string) *DB {
	t.Helper()
	c, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &DB{Name: devpg.Database, Cluster: c, Dir: dir}
	t.Cleanup(func() { d.Cluster.Stop() }) // Restart may have replaced it
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

// Owner runs one statement as the schema's owner, with the guard switched off as in migrations.
func Owner(t testing.TB, d *DB, sql string) {
	t.Helper()
	if _, err := Connect(t, With(d.URL("konstruct_owner"), "konstruct.allow_ddl", "on")).
		Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Super runs one statement as the superuser, which bypasses row-level security. Unlike Owner, it leaves the guard on.
func Super(t testing.TB, d *DB, sql string) {
	t.Helper()
	if _, err := Connect(t, d.SuperuserURL()).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Build builds the konstruct program and returns its path.
func Build(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "konstruct")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"github.com/konstruct/konstruct/cmd/konstruct").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// Restart kills the test's own cluster and starts it again on another port.
func (d *DB) Restart(t testing.TB) {
	t.Helper()
	d.Cluster.Kill()
	c, err := start(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	d.Cluster = c
}

// With returns a connection URL with a setting added.
func With(raw, setting, value string) string {
	sep := "?"
	if strings.Contains(raw, "?") {
		sep = "&"
	}
	return raw + sep + url.QueryEscape(setting) + "=" + url.QueryEscape(value)
}

// DoorOf opens a tenant door to a database, as konstruct_app.
func DoorOf(t testing.TB, d *DB) *tenantdb.Door {
	t.Helper()
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	return door
}

// Door opens a tenant door to a new database.
func Door(t testing.TB) *tenantdb.Door { t.Helper(); return DoorOf(t, Database(t)) }

// Model loads the local model and its tokenizer, until the test ends.
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
