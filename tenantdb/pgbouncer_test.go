package tenantdb_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestTheDoorWorksBehindPgBouncer runs many tenants over few server connections in transaction mode.
// PgBouncer keeps named statements apart since 1.21; an older one, as Debian 12 has it, gets
// default_query_exec_mode=exec in the URL, as docs/operations.md says.
func TestTheDoorWorksBehindPgBouncer(t *testing.T) {
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/pgbouncer"); err != nil {
			t.Fatal("no pgbouncer on this machine: make setup brings it")
		}
		bin = "/usr/sbin/pgbouncer"
	}
	out, err := exec.CommandContext(t.Context(), bin, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	var minor int
	if _, err := fmt.Sscanf(string(out), "PgBouncer 1.%d", &minor); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	pooled := pgbouncer(t, bin, testkit.Database(t), minor >= 21)
	modes := []string{"exec"}
	if minor >= 21 {
		modes = append(modes, "cache_statement")
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) { manyTenants(t, testkit.With(pooled, "default_query_exec_mode", mode)) })
	}
}

// manyTenants has 16 tenants write and count in turns, by all of the door's ways.
func manyTenants(t *testing.T, url string) {
	door, err := tenantdb.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	const turns = 20
	var all sync.WaitGroup
	for range 16 {
		tenant := uuid.New()
		all.Go(func() {
			for n := 1; n <= turns; n++ {
				if err := door.Query(t.Context(), tenant, addEvent, []any{tenant}, nil); err != nil {
					t.Error(err)
					return
				}
				if err := door.Stream(t.Context(),
					slices.Repeat([]tenantdb.Part{{Tenant: tenant, SQL: addEvent,
						Params: func(p *tenantdb.Params) { p.UUID(tenant) }}}, 2)); err != nil {
					t.Error(err)
					return
				}
				var seen int
				if err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
					return tx.QueryRow(ctx, `SELECT count(*) FROM audit_events WHERE action_type = $1`, "x").Scan(&seen)
				}); err != nil || seen != 3*n {
					t.Errorf("tenant sees %d of its %d events: %v", seen, 3*n, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// pgbouncer starts one in transaction mode with two server connections, before database d, and returns
// the app's URL through it.
func pgbouncer(t *testing.T, bin string, d *testkit.DB, keepsStatements bool) string {
	t.Helper()
	u, err := url.Parse(d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	for _, p := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(p, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	password, _ := u.User.Password()
	ini := fmt.Sprintf("[databases]\n%s = host=127.0.0.1 port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port "+
		"= %d\nunix_socket_dir =\nauth_type = plain\nauth_file = %s/users\npool_mode = "+
		"transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n",
		d.Name, u.Port(), port, dir)
	if keepsStatements {
		ini += "max_prepared_statements = 100\n"
	}
	for name, content := range map[string]string{"pgbouncer.ini": ini,
		"users": `"konstruct_app" "` + password + `"` + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin, filepath.Join(dir, "pgbouncer.ini"))
	if os.Geteuid() == 0 { // it refuses to be root
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	u.Host = net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	for range 100 {
		if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host); err == nil {
			conn.Close()
			return u.String()
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("pgbouncer does not listen: %s", log.String())
	return ""
}
