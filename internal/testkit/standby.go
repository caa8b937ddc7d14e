package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/devpg"
)

// Backup is a copy of a cluster's files, made by pg_basebackup.
type Backup struct {
	db   *DB // the cluster that was copied
	in   devpg.Installation
	dir  string
	cred *syscall.Credential
	cmd  *exec.Cmd // the standby that runs on the copy
	url  string
}

// BaseBackup copies a test's own cluster while it runs.
func (d *DB) BaseBackup(t testing.TB) *Backup {
	t.Helper()
	in, err := devpg.Find(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &Backup{db: d, in: in, dir: t.TempDir()}
	st, err := os.Stat(filepath.Join(d.Dir, "pg", "data"))
	if err != nil {
		t.Fatal(err)
	}
	owner := st.Sys().(*syscall.Stat_t)
	b.cred = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	for _, dir := range []string{filepath.Dir(b.dir), b.dir} { // PostgreSQL runs as another user when we are root
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(b.dir, "pg")
	password, err := os.ReadFile(filepath.Join(d.Dir, "pg", "password"))
	if err == nil {
		err = os.Mkdir(root, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "password"), password, 0o600)
	}
	if err == nil {
		err = os.Chown(root, int(owner.Uid), int(owner.Gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	b.run(t, "pg_basebackup", "-D", filepath.Join(root, "data"), "-d", d.Cluster.SuperuserURL("postgres"), "-c", "fast",
		"-X", "stream")
	return b
}

func (b *Backup) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(b.in.Bin, program), args...)
	cmd.Dir = filepath.Join(b.dir, "pg")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.cred}
	}
	return cmd
}

func (b *Backup) run(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := b.command(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// Standby starts a streaming standby of the cluster on the copy.
func (b *Backup) Standby(t testing.TB) {
	t.Helper()
	data := filepath.Join(b.dir, "pg", "data")
	if err := os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	b.cmd = b.command(context.Background(), "postgres", "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c",
		"primary_conninfo="+b.db.Cluster.SuperuserURL("postgres"))
	log, err := os.Create(filepath.Join(b.dir, "standby.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	here, _, _ := strings.Cut(b.db.Cluster.SuperuserURL("postgres"), "@")
	b.url = fmt.Sprintf("%s@127.0.0.1:%s/postgres", here, port)
}

func (b *Backup) stop() {
	if b.cmd != nil {
		_ = b.cmd.Process.Signal(syscall.SIGINT)
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

// Promote waits until the standby has replayed all of the cluster's WAL, kills the cluster and promotes the standby, as
// in a failover. The system identifier stays the same.
func (b *Backup) Promote(t testing.TB) *DB {
	t.Helper()
	var at string
	if err := Connect(t, b.db.Cluster.SuperuserURL("postgres")).
		QueryRow(t.Context(), `SELECT pg_current_wal_lsn()::text`).Scan(&at); err != nil {
		t.Fatal(err)
	}
	for there := false; !there; { // until the test's own timeout
		if conn, err := pgx.Connect(t.Context(), b.url); err == nil {
			_ = conn.QueryRow(t.Context(), `SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn`, at).Scan(&there)
			conn.Close(t.Context())
		} else if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	b.db.Cluster.Kill()
	b.run(t, "pg_ctl", "promote", "-w", "-D", filepath.Join(b.dir, "pg", "data"))
	b.stop()
	return b.Restore(t)
}

// Restore starts a cluster on the copy.
func (b *Backup) Restore(t testing.TB) *DB {
	t.Helper()
	c, err := start(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &DB{Name: b.db.Name, Cluster: c, Dir: b.dir}
	t.Cleanup(func() { d.Cluster.Stop() })
	return d
}

// OwnEmpty starts a cluster for this test alone, with no migration applied.
func OwnEmpty(t testing.TB) *DB {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	c, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &DB{Name: devpg.Database, Cluster: c, Dir: dir}
	t.Cleanup(func() { d.Cluster.Stop() })
	return d
}
