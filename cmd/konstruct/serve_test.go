package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
)

// serving starts the program's service on a database, and returns its address and a key.
func serving(t *testing.T, d *testkit.DB, env ...string) (cmd *exec.Cmd, url, key string) {
	t.Helper()
	cmd = exec.Command(testkit.Build(t), "serve", "--key-for", "11111111-1111-4111-8111-111111111111")
	cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"),
		"KONSTRUCT_NOTARY_DATABASE_URL="+d.URL("konstruct_notary"), "KONSTRUCT_WORKER_DATABASE_URL="+
			d.URL("konstruct_worker"),
		"KONSTRUCT_COMPLIANCE_DATABASE_URL="+d.URL("konstruct_compliance"), "KONSTRUCT_ASSETS_DIR="+devpg.AssetsDir(),
		"KONSTRUCT_DATA_DIR="+t.TempDir(), "KONSTRUCT_LISTEN=127.0.0.1:0")
	cmd.Env = append(cmd.Env, env...)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	keys := make(chan string, 1)
	go func() { // the two pipes are read each by itself: which has something first says nothing
		defer close(keys)
		for s := bufio.NewScanner(out); s.Scan(); {
			if key := regexp.MustCompile(`kst_[0-9A-Za-z]{82}`).FindString(s.Text()); key != "" {
				keys <- key
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	var log strings.Builder
	for s := bufio.NewScanner(said); url == "" && s.Scan(); {
		fmt.Fprintln(&log, s.Text())
		if m := regexp.MustCompile(`serving at (https?://\S+)`).FindStringSubmatch(s.Text()); m != nil {
			url = m[1]
		}
	}
	if url != "" {
		key = <-keys
	}
	if url == "" || key == "" {
		t.Fatalf("it does not serve: %s", log.String())
	}
	go func() { // so that it never waits for whoever reads
		for s := bufio.NewScanner(said); s.Scan(); {
			fmt.Println("service:", s.Text())
		}
	}()
	return cmd, url, key
}

// TestABusyPortMakesNoKey: a key is made once it is sure that somebody answers to it.
func TestABusyPortMakesNoKey(t *testing.T) {
	d := testkit.Database(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cmd := exec.CommandContext(t.Context(), testkit.Build(t), "serve", "--key-for",
		"11111111-1111-4111-8111-111111111111", "--listen", taken.Addr().String())
	cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"), "KONSTRUCT_DATA_DIR="+t.TempDir(),
		"KONSTRUCT_METRICS_LISTEN=127.0.0.1:0")
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Contains(string(out), "kst_") ||
		!strings.Contains(string(out), "is taken, perhaps by another konstruct") {
		t.Errorf("%v: %s", err, out)
	}
	for _, lost := range []string{"NOTARY_DATABASE_URL this process signs no checkpoints",
		"WORKER_DATABASE_URL this process leaves enqueued", "COMPLIANCE_DATABASE_URL this process erases nothing"} {
		if !strings.Contains(string(out), "konstruct: without KONSTRUCT_"+lost) {
			t.Errorf("it does less, and does not say without which role: %s", out)
		}
	}
	var keys int
	if err := testkit.Connect(t, d.SuperuserURL()).QueryRow(t.Context(), `SELECT count(*) FROM access_keys`).
		Scan(&keys); err != nil || keys != 0 {
		t.Errorf("%d keys, %v", keys, err)
	}
}

// TestOneRoundBesideAnActiveNotary: whoever wants everything signed waits for the notary that is at it, as a reader of
// README does while the service runs.
func TestOneRoundBesideAnActiveNotary(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	_, _, _ = serving(t, d, "KONSTRUCT_DATA_DIR="+dir, "KONSTRUCT_METRICS_LISTEN=127.0.0.1:0")
	konstruct := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), testkit.Build(t), args...)
		cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"),
			"KONSTRUCT_NOTARY_DATABASE_URL="+d.URL("konstruct_notary"), "KONSTRUCT_DATA_DIR="+dir,
			"KONSTRUCT_METRICS_LISTEN=127.0.0.1:0", "KONSTRUCT_TENANT=11111111-1111-4111-8111-111111111111")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	event := strings.TrimSpace(konstruct("audit", "log", "--action", "llm_call"))
	const others = "the notary that runs on this database has signed everything"
	if out := konstruct("notary", "run", "--once"); !strings.Contains(out, others) ||
		!strings.Contains(out, "0 events") {
		t.Errorf("run --once: %s", out)
	}
	if out := konstruct("audit", "prove", event); !strings.Contains(out, "c2sp.org/tlog-proof") {
		t.Errorf("it is not signed: %s", out)
	}
}

// TestTheTourWithCurl runs docs/http.md, as a reader would, and stops the service.
func TestTheTourWithCurl(t *testing.T) {
	raw, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tour, _ := strings.Cut(string(raw), "```sh\n")
	tour, _, ok := strings.Cut(tour, "```")
	if !ok || strings.Count(tour, "curl") < 7 {
		t.Fatalf("docs/http.md has no tour with curl: %s", tour)
	}
	cmd, url, key := serving(t, testkit.Database(t))
	tour = strings.ReplaceAll(tour, "http://127.0.0.1:7117", url)
	sh := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c",
		strings.ReplaceAll(tour, "\ncurl", "\necho; curl"))
	sh.Dir, sh.Env = "../..", append(os.Environ(), "KONSTRUCT_KEY="+key)
	out, err := sh.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`"tenant_id":"11111111-1111-4111-8111-111111111111"`,
		`"input_summary":"{\"order\":17}"`, `"job_id"`, `"event_id"`, "event: event"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nothing says %s", want)
		}
	}
	if strings.Contains(string(out), `"status":4`) || strings.Contains(string(out), `"status":5`) {
		t.Errorf("something is refused")
	}
	if bundle, err := os.ReadFile("/tmp/tour.zip"); err != nil || !bytes.HasPrefix(bundle, []byte("PK")) {
		t.Errorf("no bundle was downloaded: %v, %.100q", err, bundle)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err == nil && !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core files may be written: %s", limits)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// TestTheCertificateIsReadAgain when its files change.
func TestTheCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	make := func(name string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
			"ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN="+name, "-keyout", key, "-out", cert).
			CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	make("one.example")
	_, url, token := serving(t, testkit.Database(t), "KONSTRUCT_TLS_CERT="+cert, "KONSTRUCT_TLS_KEY="+key)
	shown := func() string {
		out, err := exec.CommandContext(t.Context(), "curl", "-sSkv", "--http2", "-H", "Authorization: Bearer "+token,
			url+"/v1/me").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if first := shown(); !strings.Contains(first, "one.example") || !strings.Contains(first, "HTTP/2 200") {
		t.Errorf("shown: %s", first)
	}
	time.Sleep(1100 * time.Millisecond) // so that the files' time is another
	make("two.example")
	for end := time.Now().Add(20 * time.Second); !strings.Contains(shown(),
		"two.example"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the old certificate is shown 20 s after it changed")
		}
	}
}

// TestKeysAndPeopleAtTheTerminal are what the API has, too.
func TestKeysAndPeopleAtTheTerminal(t *testing.T) {
	d := testkit.Database(t)
	bin, dir := testkit.Build(t), t.TempDir()
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), bin, append(args, "--json")...)
		cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"), "KONSTRUCT_DATA_DIR="+dir,
			"KONSTRUCT_TENANT=11111111-1111-4111-8111-111111111111", "KONSTRUCT_OIDC_ISSUER=https://id.example")
		out, err := cmd.Output()
		return string(out), err
	}
	out, err := run("key", "create", "ci", "--role", "auditor", "--expires", "1h")
	var told struct {
		Secret string `json:"secret"`
		Key    struct {
			ID string `json:"id"`
		} `json:"key"`
	}
	if err != nil || json.Unmarshal([]byte(out), &told) != nil || !strings.HasPrefix(told.Secret, "kst_") {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err := run("key", "rotate", told.Key.ID, "--overlap", "1m"); err != nil || !strings.Contains(out, "kst_") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := run("key", "revoke", told.Key.ID); err != nil || !strings.Contains(out, "revoked_at") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := run("key", "list"); err != nil || strings.Count(out, `"id"`) != 2 || strings.Contains(out, "kst_") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := run("user", "add", "ada", "--role", "viewer"); err != nil ||
		!strings.Contains(out, `"role": "viewer"`) {
		t.Errorf("%s, %v", out, err)
	}
	for _, bad := range [][]string{{"key", "create", "x", "--permission", "events:all"},
		{"key", "create", "x", "--role", "king"}, {"user", "add", "ada", "--role", "king"},
		{"key", "revoke", "00000000-0000-4000-8000-000000000009"}} {
		if out, err := run(bad...); err == nil {
			t.Errorf("%v: %s", bad, out)
		}
	}
}

// TestFiguresHaveAListenerOfTheirOwn: they are not where the service is, but at the address that is set, on this
// machine alone unless it is set; off is none.
func TestFiguresHaveAListenerOfTheirOwn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	_, url, _ := serving(t, testkit.Database(t), "KONSTRUCT_METRICS_LISTEN="+at)
	get := func(url, host string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(raw)
	}
	if status, _ := get(url+"/metrics", ""); status != 404 {
		t.Errorf("where the service is: %d", status)
	}
	for _, want := range []string{"konstruct_http_requests_in_flight", "konstruct_audit_", "konstruct_notary_",
		"go_goroutines"} {
		if status, m := get("http://"+at+"/metrics", ""); status != 200 || !strings.Contains(m, want) {
			t.Errorf("%d, no %s", status, want)
		}
	}
	if status, _ := get("http://"+at+"/metrics", "evil.example"); status != 421 {
		t.Errorf("to a page whose name leads here: %d", status)
	}
	if status, _ := get("http://"+at+"/v1/me", ""); status != 404 {
		t.Errorf("the service where its figures are: %d", status)
	}
	f := settings{}
	field, _ := reflect.TypeOf(f).FieldByName("MetricsListen")
	if host, _, err := net.SplitHostPort(field.Tag.Get("default")); err != nil || host != "127.0.0.1" {
		t.Errorf("where nothing is set, figures are at %s", field.Tag.Get("default"))
	}
}
