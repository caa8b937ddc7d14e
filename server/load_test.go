package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// mostMemory is what a service with the usual bound on requests' memory may take altogether, at its peak: the bound,
// and as much again as the Go runtime leaves uncollected, and itself.
const mostMemory = 640 << 20

// batchOf writes a request with a batch of events that take so many bytes in all, as a client would that looks for
// an answer when it has sent everything.
func batchOf(c io.Writer, key, name string, bytes, events int, expect string) error {
	text := strings.Repeat("x", bytes/events-len(`{"action_type":"load","user_id":"","input_summary":""},`)-len(name))
	event := fmt.Sprintf(`{"action_type":"load","user_id":%q,"input_summary":%q}`, name, text)
	size := len(`{"events":[]}`) + events*len(event) + events - 1
	w := bufio.NewWriterSize(c, 1<<16)
	fmt.Fprintf(w,
		"POST /v1/events/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: "+
			"application/json\r\nContent-Length: %d\r\n%s\r\n{\"events\":[", key, size, expect)
	for i := range events {
		if i > 0 {
			_ = w.WriteByte(',')
		}
		if _, err := w.WriteString(event); err != nil {
			return err
		}
	}
	_, _ = w.WriteString("]}")
	return w.Flush()
}

// peak is the most memory that a process had so far.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("this system does not say how much memory a process had: %v", err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(raw)
	if m == nil {
		t.Skip("this system does not say how much memory a process had")
	}
	kB, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kB << 10
}

// TestManyLargeBatchesAtOnce: each of 40 clients that send 30 MiB at once with one key, and look for the answer
// when all is sent, is answered; what is acknowledged is in the trail, what is turned away says when to come again;
// and the service's memory stays bounded.
func TestManyLargeBatchesAtOnce(t *testing.T) {
	d := testkit.Database(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, pepper, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	k, err := konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app"), KeySecret: pepper})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	key, _, err := k.Tenant(acme).Keys().Create(t.Context(), access.LocalOperator(acme, "test"),
		access.KeyRequest{Name: "load",
			Permissions: access.Admin.Permissions()})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, bin: testkit.Build(t), addr: addr, log: &logBuffer{}, env: []string{"KONSTRUCT_DATABASE_URL=" +
		d.URL("konstruct_app"), "KONSTRUCT_KEY_SECRET_FILE=" + secret, "KONSTRUCT_LISTEN=" + addr,
		"KONSTRUCT_DATA_DIR=" + dir}}
	p.start()
	defer func() { p.kill() }()
	before := peak(t, p.cmd.Process.Pid)

	const clients, size = 40, 30 << 20
	shapes := []int{480, 10_000, 1, 30} // events of a batch
	var mu sync.Mutex
	answers, acknowledged := map[int]int{}, map[string]int{}
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			name, events := fmt.Sprintf("client %d", i), shapes[i%len(shapes)]
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := batchOf(c, key, name, size, events, ""); err != nil {
				t.Errorf("%s can't send: %v", name, err)
				return
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Errorf("%s gets no answer: %v", name, err)
				return
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Errorf("%s gets half an answer: %v", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[res.StatusCode]++
			switch after, _ := strconv.Atoi(res.Header.Get("Retry-After")); res.StatusCode {
			case http.StatusCreated:
				acknowledged[name] = events
			case http.StatusTooManyRequests, http.StatusServiceUnavailable:
				if after < 1 || !strings.Contains(string(body), `"status":`) {
					t.Errorf("%s is to come again after %q: %s", name, res.Header.Get("Retry-After"), body)
				}
			default:
				t.Errorf("%s: %d %s", name, res.StatusCode, body)
			}
		})
	}
	group.Wait()
	most := peak(t, p.cmd.Process.Pid)
	there := map[string]int{}
	for e, err := range k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: "load"}) {
		if err != nil {
			t.Fatal(err)
		}
		there[*e.UserID]++
	}
	for name, n := range there {
		if n != acknowledged[name] {
			t.Errorf("of %s's %d events %d are in the trail", name, acknowledged[name], n)
		}
	}
	if len(there) != len(acknowledged) || len(acknowledged) == 0 || answers[429]+answers[503] == 0 {
		t.Errorf("%d batches are acknowledged, %d in the trail: %v", len(acknowledged), len(there), answers)
	}
	t.Logf("answers %v; memory %d MiB before, %d MiB at most", answers, before>>20, most>>20)
	if most > mostMemory {
		t.Errorf("the service took %d MiB, %d are too many", most>>20, int64(mostMemory)>>20)
	}
}
