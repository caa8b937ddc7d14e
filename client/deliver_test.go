package client_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/internal/testkit"
)

// copyTree copies a spool's folder.
func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func call(n int) client.Event {
	return client.ToolCall{Server: "claude-code", Name: "Bash", CallID: fmt.Sprintf("toolu_%d", n),
		ConversationID: "s1", Arguments: fmt.Sprintf(`{"command":"echo %d"}`, n), Result: "ok", Latency: time.Second,
		At: time.UnixMicro(1_800_000_000_000_000 + int64(n))}.Event()
}

func TestEventsWaitWhileTheServiceIsUnavailableAndLandOnceInOrder(t *testing.T) {
	w := serve(t, `{}`)
	dir := t.TempDir() // which two tenants' agents share
	k := w.open(acme, func(c *client.Config) { c.SpoolDir = dir })
	other := w.open(globex, func(c *client.Config) { c.SpoolDir = dir })
	w.away.Store(true)
	for n := range 30 {
		if err := k.LogBatch(t.Context(), []client.Event{call(2 * n), call(2*n + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Log(t.Context(), call(1000)); err != nil {
		t.Fatal(err)
	}
	if d, err := k.Deliver(t.Context()); err == nil || d.Delivered > 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	st, err := k.Status()
	if err != nil || st.Files != 30 || st.Oldest.IsZero() || !strings.Contains(st.Problem, "can't be reached") ||
		k.Due() {
		t.Fatalf("%+v, %v, due %v", st, err, k.Due())
	}
	w.away.Store(false)
	before := copyTree(t, k.Dir())
	if d, err := k.Deliver(t.Context()); err != nil || d.Delivered != 60 {
		t.Fatalf("%+v, %v", d, err)
	}
	if d, err := other.Deliver(t.Context()); err != nil || d.Delivered != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	// A process that was killed after the service had answered left all files: nothing is logged twice.
	again := w.open(acme)
	if err := os.CopyFS(filepath.Join(again.Dir(), "new"), os.DirFS(filepath.Join(before, "new"))); err != nil {
		t.Fatal(err)
	}
	if err := again.Log(t.Context(), call(60)); err != nil {
		t.Fatal(err)
	}
	if d, err := again.Deliver(t.Context()); err != nil || d.Delivered != 61 || d.Rejected != 0 {
		t.Fatalf("again: %+v, %v", d, err)
	}
	all := w.events(acme, client.ActionToolCall)
	if len(all) != 61 || len(w.events(globex, "")) != 1+1 { // the key's creation
		t.Fatalf("%d events, and %d of another tenant", len(all), len(w.events(globex, "")))
	}
	for n, e := range all {
		if want := fmt.Sprintf(`{"command":"echo %d"}`, n); *e.Input != want || *e.LatencyMS != 1000 {
			t.Errorf("event %d: %s", n, *e.Input)
		}
	}
	if st, err := k.Status(); err != nil || st.Files != 0 || st.Problem != "" {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestWhatTheServiceRefusesIsSetAsideAndTheRestLands(t *testing.T) {
	w := serve(t, `{}`)
	k := w.open(acme)
	bad := call(3)
	bad.Metadata["konstruct.forged"] = true
	taken, other := call(5), call(6)
	taken.ID = uuid.New()
	other.ID = taken.ID
	events := []client.Event{call(1), call(2), bad, call(4), taken, other}
	if err := k.LogBatch(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(filepath.Join(k.Dir(), "new", "00000000-zz.jsonl"), []byte("\x00garbage\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := k.Deliver(t.Context()); err != nil || d.Delivered != 4 || d.Rejected != 3 {
		t.Fatalf("%+v, %v", d, err)
	}
	if n := len(w.events(acme, client.ActionToolCall)); n != 4 {
		t.Errorf("%d events", n)
	}
	rejects, err := k.Rejects()
	if err != nil || len(rejects) != 3 {
		t.Fatalf("%d rejected, %v", len(rejects), err)
	}
	said := fmt.Sprintf("%s", rejects)
	for _, want := range []string{"konstruct.forged", "no JSON object", "answers 4"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %.600s", want, said)
		}
	}
}

func TestAnythingElseThanAServiceLeavesTheEventsInTheSpool(t *testing.T) {
	var answer http.HandlerFunc
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer h.Close()
	problem := func(status int, retry string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", retry)
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"status":%d,"detail":"no"}`, status)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		said   string
	}{
		"a proxy's page": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, "no Konstruct service"},
		"a login": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
			"no Konstruct service"},
		"a revoked key": {problem(401, ""), "401"},
		"no permission": {problem(403, ""), "403"},
		"another path":  {problem(404, ""), "404"},
		"too many":      {problem(429, "60"), "429"},
		"no trail":      {problem(503, ""), "503"},
		"a gap": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(202)
			fmt.Fprint(w, `{"ids":null,"gap":true}`)
		}, "can't write the trail"},
		"other JSON": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ids":[]}`) }, "took 0 of 1"},
		"a hang up":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "can't be reached"},
		"a half answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{")
		}, "broke off"},
	} {
		answer = c.answer
		k := open(t, func(cfg *client.Config) { cfg.URL, cfg.Key = h.URL, "kst_x" })
		if err := k.Log(t.Context(), call(1)); err != nil {
			t.Fatal(err)
		}
		d, err := k.Deliver(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.said) || d != (client.Delivery{}) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
		if st, err := k.Status(); err != nil || st.Files != 1 || st.Rejected != 0 || st.Problem == "" {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
}

func TestWhatCannotBeKeptIsCountedAndSaid(t *testing.T) {
	w := serve(t, `{}`)
	disk := testkit.SmallDisk(t, 1<<20)
	k := w.open(acme, func(c *client.Config) { c.SpoolDir = filepath.Join(disk, "spool") })
	empty := testkit.Fill(t, disk, 0)
	for range 3 {
		if err := k.Log(t.Context(), call(1)); err == nil {
			t.Fatal("kept on a full disk")
		}
	}
	big := call(2)
	big.Metadata["x"] = strings.Repeat("y", client.MaxMetadata)
	if err := k.Log(t.Context(), big); err == nil {
		t.Fatal("kept beyond the limit")
	}
	if st, err := k.Status(); err != nil || st.Lost != 4 {
		t.Fatalf("%+v, %v", st, err)
	}
	empty()
	if err := k.Log(t.Context(), call(3)); err != nil {
		t.Fatal(err)
	}
	if d, err := k.Deliver(t.Context()); err != nil || d.Delivered != 2 {
		t.Fatalf("%+v, %v", d, err)
	}
	gaps := w.events(acme, client.ActionGap)
	if len(gaps) != 1 || !strings.Contains(string(gaps[0].Metadata), `"events": 4`) {
		t.Errorf("%+v", gaps)
	}
	if st, err := k.Status(); err != nil || st.Lost != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestTheSpoolHasALimit(t *testing.T) {
	w := serve(t, `{}`)
	w.away.Store(true)
	k := w.open(acme, func(c *client.Config) { c.SpoolLimit = 10_000 })
	var err error
	for n := 0; n < 1000 && err == nil; n++ {
		err = k.Log(t.Context(), call(n))
		_, _ = k.Deliver(t.Context())
	}
	if !errors.Is(err, client.ErrFull) || !errors.Is(k.Writable(), client.ErrFull) {
		t.Fatalf("%v, %v", err, k.Writable())
	}
	w.away.Store(false)
	if _, err := k.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.Writable(); err != nil {
		t.Error(err)
	}
	if gaps := w.events(acme, client.ActionGap); len(gaps) != 1 {
		t.Errorf("%d gaps", len(gaps))
	}
}

func TestTextsThatPostgreSQLCannotHoldAreRecorded(t *testing.T) {
	w := serve(t, `{}`)
	k := w.open(acme)
	e := call(1)
	e.Output, e.Metadata["note"] = "a\x00b\xffc", []string{"x\x00y"}
	long := call(2)
	long.Output = strings.Repeat("é", client.MaxText)
	escaped := client.Event{Action: "x", Input: strings.Repeat("\x01", client.MaxText),
		Output: strings.Repeat("<", client.MaxText)} // six bytes for each in JSON
	if err := k.LogBatch(t.Context(), []client.Event{e, long, escaped}); err != nil {
		t.Fatal(err)
	}
	if d, err := k.Deliver(t.Context()); err != nil || d.Delivered != 3 {
		t.Fatalf("%+v, %v", d, err)
	}
	all := w.events(acme, client.ActionToolCall)
	if len(all) != 2 || *all[0].Output != "a\u2400b\uFFFDc" ||
		!strings.Contains(string(all[0].Metadata), `"text_replaced": true`) ||
		!strings.Contains(string(all[0].Metadata), "x\u2400y") || !strings.Contains(*all[1].Output, "… [cut: ") {
		t.Errorf("%+v", all)
	}
}

func TestRunDeliversUntilNothingComes(t *testing.T) {
	w := serve(t, `{}`)
	dir, key := t.TempDir(), w.key(acme)
	share := func(c *client.Config) { c.SpoolDir, c.Key = dir, key }
	k := w.open(acme, share)
	ended := make(chan error, 1)
	go func() { ended <- k.Run(t.Context(), 2*time.Second) }()
	testkit.Until(t, "one process delivers", func() bool { return !k.Due() })
	second := w.open(acme, share)
	if err := second.Run(t.Context(), time.Second); !errors.Is(err, client.ErrDelivering) {
		t.Errorf("two deliver: %v", err)
	}
	if _, err := second.Deliver(t.Context()); !errors.Is(err, client.ErrDelivering) {
		t.Errorf("two deliver: %v", err)
	}
	if err := second.Log(t.Context(), call(1)); err != nil { // as another process
		t.Fatal(err)
	}
	testkit.Until(t, "it lands", func() bool { return len(w.events(acme, client.ActionToolCall)) == 1 })
	if err := <-ended; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Run(ctx, 0); err != nil {
		t.Error(err)
	}
}

func TestAWrongConfigurationIsSaid(t *testing.T) {
	for want, c := range map[string]client.Config{
		"needs a folder":          {},
		"no address of a service": {SpoolDir: t.TempDir(), URL: "ftp://x", Key: "k"},
		"needs a key":             {SpoolDir: t.TempDir(), URL: "http://x", Key: "a\nb"},
		"the least is 32":         {SpoolDir: t.TempDir(), RedactKey: []byte("short")},
	} {
		if _, err := client.Open(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Open(client.Config{SpoolDir: file}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Error("a file is a folder")
	}
	k := open(t)
	if err := k.Log(t.Context(), call(1)); err != nil {
		t.Error(err)
	}
	if _, err := k.Deliver(t.Context()); !errors.Is(err, client.ErrNoService) {
		t.Error(err)
	}
}

func TestEventsUnderARotatedKeyAreAdoptedAndOthersAreNot(t *testing.T) {
	w := serve(t, `{}`)
	dir := t.TempDir()
	in := func(c *client.Config) { c.SpoolDir = dir }
	old, other := w.open(acme, in), w.open(globex, in)
	none := open(t, in) // no service was set
	for i, k := range []*client.Client{old, other, none} {
		if k != none {
			if err := k.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := k.Log(t.Context(), call(i)); err != nil {
			t.Fatal(err)
		}
	}
	k := w.open(acme, in) // with another key
	if all, err := k.Others(); err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, c := range []struct {
		unknown bool
		files   int
		calls   int
	}{{false, 1, 1}, {false, 0, 1}, {true, 1, 2}} {
		n, err := k.Adopt(t.Context(), c.unknown)
		if err != nil || n != c.files {
			t.Errorf("unknown %v: %d files, %v", c.unknown, n, err)
		}
		if _, err := k.Deliver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all := w.events(acme, client.ActionToolCall); len(all) != c.calls {
			t.Errorf("%d calls", len(all))
		}
	}
	if all := w.events(globex, client.ActionToolCall); len(all) != 0 {
		t.Errorf("%d calls before their own key delivers", len(all))
	}
	if d, err := other.Deliver(t.Context()); err != nil || d.Delivered != 1 {
		t.Errorf("%+v, %v", d, err)
	}
}
