package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
)

// binary builds the program itself, once a test.
func binary(t *testing.T) string {
	t.Helper()
	bin := testkit.Build(t)
	for dir := filepath.Dir(bin); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// devDB starts `konstruct dev db` and returns it with the URLs that it printed.
func devDB(t *testing.T, bin, dir string, attr *syscall.SysProcAttr) (*exec.Cmd, map[string]string) {
	t.Helper()
	cmd := exec.Command(bin, "dev", "db", "--data-dir", dir)
	cmd.SysProcAttr = attr
	cmd.Dir = filepath.Dir(bin)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); ended(t, dir) })
	urls := map[string]string{}
	for lines := bufio.NewScanner(out); len(urls) < 5 && lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if !ok || !strings.HasPrefix(key, "KONSTRUCT_") {
			t.Errorf("stdout has %q", lines.Text())
		}
		urls[key] = value
	}
	if len(urls) < 5 {
		t.Fatalf("it printed %v and stopped: %v: %s", urls, cmd.Wait(), log.String())
	}
	return cmd, urls
}

// ended waits for the end of a server whose parent is gone: it answers no more, and is still writing its last
// checkpoint.
func ended(t *testing.T, dir string) {
	t.Helper()
	for n := 0; n < 300; n++ {
		if _, err := os.Stat(filepath.Join(dir, "pg", "data", "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the server does not end")
}

func answers(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func TestDevDBServesTwoAtOnceAndStopsWhenTold(t *testing.T) {
	bin := binary(t)
	dir := passable(t)
	one, urls := devDB(t, bin, filepath.Join(dir, "one"), nil)
	two, others := devDB(t, bin, filepath.Join(dir, "two"), nil)
	for _, u := range []map[string]string{urls, others} {
		for key, url := range u {
			if err := answers(url); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	app, err := pgx.Connect(t.Context(), urls["KONSTRUCT_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Exec(t.Context(), `CREATE TEMPORARY TABLE mine (a int)`); err == nil {
		t.Error("konstruct_app makes temporary tables")
	}
	if err := app.Close(t.Context()); err != nil {
		t.Error(err)
	}
	out, err := exec.Command(bin, "dev", "db", "--data-dir", filepath.Join(dir, "one")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "runs already") ||
		!strings.Contains(string(out), "KONSTRUCT_DATABASE_URL="+urls["KONSTRUCT_DATABASE_URL"]+"\n") {
		t.Errorf("a second one in the same folder: %v, %s", err, out)
	}
	// A command without a URL joins the one that runs.
	join := exec.Command(bin, "doctor", "--data-dir", filepath.Join(dir, "one"))
	if out, err := join.CombinedOutput(); err != nil || !strings.Contains(string(out), "using the private database") {
		t.Errorf("doctor: %v, %s", err, out)
	}
	for sig, c := range map[os.Signal]*exec.Cmd{syscall.SIGTERM: one, syscall.SIGINT: two} {
		if err := c.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("after %v it ended with %v", sig, err)
		}
	}
	if err := answers(urls["KONSTRUCT_DATABASE_URL"]); err == nil {
		t.Error("PostgreSQL still answers after its parent was told to stop")
	}
}

func TestDevDBIsGoneWithItsParentAndComesBack(t *testing.T) {
	bin, dir := binary(t), filepath.Join(passable(t), "data")
	for range 3 {
		cmd, urls := devDB(t, bin, dir, nil)
		conn, err := pgx.Connect(t.Context(), urls["KONSTRUCT_DATABASE_URL"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(),
			`BEGIN;
			SET LOCAL app.current_tenant = '11111111-1111-4111-8111-111111111111';
			INSERT INTO audit_events (tenant_id, action_type)
				VALUES ('11111111-1111-4111-8111-111111111111', 'x');
			COMMIT`); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for n := 0; answers(urls["KONSTRUCT_DATABASE_URL"]) == nil; n++ {
			if n > 100 {
				t.Fatal("PostgreSQL outlives its parent")
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	_, urls := devDB(t, bin, dir, nil)
	verify := exec.Command(bin, "audit", "verify")
	verify.Env = append(os.Environ(), "KONSTRUCT_NOTARY_DATABASE_URL="+urls["KONSTRUCT_NOTARY_DATABASE_URL"])
	if out, err := verify.CombinedOutput(); err != nil || !strings.Contains(string(out), "3 events match") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDevDBStopsWhenItsParentDies starts it from a shell and kills the shell.
func TestDevDBStopsWhenItsParentDies(t *testing.T) {
	bin, dir := binary(t), passable(t)
	out := filepath.Join(dir, "urls")
	shell := exec.Command("sh", "-c", bin+" dev db --data-dir "+dir+"/data >"+out+" & wait")
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	for n := 0; url == "" && n < 600; n++ {
		time.Sleep(100 * time.Millisecond)
		raw, _ := os.ReadFile(out)
		if i := bytes.Index(raw, []byte("KONSTRUCT_SUPERUSER_DATABASE_URL=")); i >= 0 &&
			bytes.HasSuffix(raw, []byte("\n")) {
			url = strings.TrimSpace(string(raw[i+len("KONSTRUCT_SUPERUSER_DATABASE_URL="):]))
		}
	}
	if err := answers(url); err != nil {
		t.Fatal(err)
	}
	if err := shell.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = shell.Wait()
	for n := 0; answers(url) == nil; n++ {
		if n > 100 {
			t.Fatal("it outlives the shell that started it")
		}
		time.Sleep(100 * time.Millisecond)
	}
	ended(t, filepath.Join(dir, "data"))
}

// TestDevDBAsAnOrdinaryUser runs it as nobody, when the tests are root's; otherwise the other tests do.
func TestDevDBAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	bin, dir := binary(t), filepath.Join(passable(t), "nobody")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KONSTRUCT_ASSETS_DIR", "/var/lib/konstruct")
	cmd, urls := devDB(t, bin, dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	if err := answers(urls["KONSTRUCT_DATABASE_URL"]); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestDevDBBelowAFolderOfRootsAlone is where root's own home is.
func TestDevDBBelowAFolderOfRootsAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	bin, dir := binary(t), passable(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KONSTRUCT_ASSETS_DIR", "/var/lib/konstruct")
	cmd, urls := devDB(t, bin, filepath.Join(dir, "data"), nil)
	if err := answers(urls["KONSTRUCT_DATABASE_URL"]); err != nil {
		t.Error(err)
	}
	where, err := os.Readlink(filepath.Join(dir, "data", "pg"))
	if err != nil {
		t.Error(err)
	}
	t.Cleanup(func() { os.RemoveAll(where) })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// passable is a folder that another user can pass through.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestAHugeTextIsRefusedInLittleMemory gives it 200 MB of text, which must not come into memory: it takes what a text
// just over the limit takes.
func TestAHugeTextIsRefusedInLittleMemory(t *testing.T) {
	d, bin := testkit.Database(t), binary(t)
	refused := func(size int) (peak int64) { // in MiB
		path := filepath.Join(t.TempDir(), "huge.txt")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		line := bytes.Repeat([]byte("A line of a log that never ends. "), 1<<15)
		for n := 0; n < size; n += len(line) {
			if _, err := f.Write(line); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), bin, "kb", "ingest", "--tenant",
			"11111111-1111-4111-8111-111111111111", path)
		cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"), "GOMEMLIMIT=200MiB")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "huge.txt: the file is too large") {
			t.Errorf("%v: %s", err, out)
		}
		return cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10
	}
	little, much := refused(17<<20), refused(200<<20)
	t.Logf("17 MB take %d MiB, 200 MB take %d", little, much)
	if much > little+100 {
		t.Errorf("200 MB take %d MiB, and 17 MB %d", much, little)
	}
}

// TestAFullDiskIsOneClearLineAndNothingIsLost lets the server's files grow no further, logs until it
// says so, and gives the room back.
func TestAFullDiskIsOneClearLineAndNothingIsLost(t *testing.T) {
	d := testkit.Own(t)
	pidfile, err := os.ReadFile(filepath.Join(d.Dir, "pg", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(pidfile), &pid); err != nil {
		t.Fatal(err)
	}
	limit := func(bytes string) {
		cmd := exec.CommandContext(t.Context(), "prlimit", fmt.Sprintf("--pid=%d", pid), "--fsize="+bytes+":")
		if st, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil { // as the server's own user, who may
			owner := st.Sys().(*syscall.Stat_t)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	limit("17825792") // 17 MiB: a WAL segment has 16
	t.Setenv("KONSTRUCT_DATABASE_URL", d.URL("konstruct_app"))
	t.Setenv("KONSTRUCT_NOTARY_DATABASE_URL", d.URL("konstruct_notary"))
	var out, errs bytes.Buffer
	door := testkit.DoorOf(t, d)
	tenant := [16]byte{0x11}
	logged, code := 0, 0
	for code == 0 && logged < 2000 {
		// jsonb compresses; what differs in every byte does not.
		sql := `INSERT INTO audit_events (tenant_id, action_type, input_summary)
			SELECT $1, 'x', string_agg(md5(random()::text), '') FROM generate_series(1, 4000)`
		if err := door.Query(t.Context(), tenant, sql, []any{tenant}, nil); err != nil {
			code = exitCode(err)
			if line := explainError(err); !strings.HasPrefix(line, "the database's disk is full") ||
				strings.Contains(line, "\n") {
				t.Errorf("a full disk reads %q", line)
			}
			break
		}
		logged++
	}
	if code != exitFailed {
		t.Fatalf("%d events went in, exit code %d", logged, code)
	}
	if code := run(t.Context(), []string{"audit", "verify"}, &out, &errs); code != 0 ||
		!strings.Contains(out.String(), fmt.Sprintf("%d events match", logged)) {
		t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
	}
	limit("unlimited")
	again := testkit.DoorOf(t, d)
	if err := again.Query(t.Context(), tenant, `INSERT INTO audit_events (tenant_id, action_type) VALUES ($1, 'x')`,
		[]any{tenant}, nil); err != nil {
		t.Errorf("after there is room again: %v", err)
	}
}
