// Package testkit gives a test a migrated private PostgreSQL in one line.
package testkit

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

// Cluster starts a migrated cluster that stops with the test.
func Cluster(t *testing.T) *devpg.Cluster {
	t.Helper()
	in, err := devpg.Find(devpg.PartsDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// PostgreSQL runs as another user when we are root, and must pass through.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	c, err := devpg.Start(t.Context(), in, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := migrations.Up(t.Context(), c.URL("konstruct_owner", devpg.Database), func(int) {}); err != nil {
		t.Fatal(err)
	}
	return c
}

// Connect opens one connection that closes with the test.
func Connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Owner runs one statement as the owner of the schema.
func Owner(t *testing.T, c *devpg.Cluster, sql string) {
	t.Helper()
	if _, err := Connect(t, c.URL("konstruct_owner", devpg.Database)).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// DoorOf opens the tenant door of a cluster, as konstruct_app.
func DoorOf(t *testing.T, c *devpg.Cluster) *tenantdb.Door {
	t.Helper()
	door, err := tenantdb.Open(t.Context(), c.URL("konstruct_app", devpg.Database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	return door
}

// Door gives the tenant door of a cluster of its own.
func Door(t *testing.T) *tenantdb.Door { t.Helper(); return DoorOf(t, Cluster(t)) }
