package server_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

var kills = flag.Int("kills", 3, "how often each part is killed under load")

// process is `konstruct serve` as a process of its own.
type process struct {
	t    *testing.T
	bin  string
	env  []string
	addr string
	cmd  *exec.Cmd
	log  *logBuffer
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.bin, "serve", "--no-work", "--no-notary")
	p.cmd.Env = append(os.Environ(), p.env...)
	err, err2 := p.cmd.StderrPipe()
	if err2 != nil {
		p.t.Fatal(err2)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		s, said := bufio.NewScanner(err), false
		for s.Scan() {
			fmt.Fprintln(p.log, s.Text())
			if !said && strings.Contains(s.Text(), "serving at") {
				said = true
				close(ready)
			}
		}
		if !said {
			close(ready)
		}
	}()
	<-ready
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// TestNothingAcknowledgedIsLostOrDoubled while the service, the database, and both networks are killed under load:
// clients try again with the same Idempotency-Key and come through without being restarted.
func TestNothingAcknowledgedIsLostOrDoubled(t *testing.T) {
	d := testkit.Own(t)
	database, url := testkit.NewProxy(t, d.URL("konstruct_app"))
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
	p := &process{t: t, bin: testkit.Build(t), addr: addr, log: &logBuffer{},
		env: []string{"KONSTRUCT_DATABASE_URL=" + url, "KONSTRUCT_KEY_SECRET_FILE=" + secret,
			"KONSTRUCT_LISTEN=" + addr, "KONSTRUCT_DATA_DIR=" + dir}}
	p.start()
	defer func() { p.kill() }()
	clients, through := testkit.NewProxy(t, "http://"+addr)

	k, err := konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app"), KeySecret: pepper})
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := k.Tenant(acme).Keys().Create(t.Context(), access.LocalOperator(acme, "test"),
		access.KeyRequest{Name: "load", Permissions: access.Admin.Permissions()})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	acknowledged, retried := map[string]int{}, 0 // by its name, how many events
	var writers sync.WaitGroup
	for c := range 16 {
		writers.Go(func() {
			client := &http.Client{Timeout: 3 * time.Second, Transport: http.DefaultTransport.(*http.Transport).Clone()}
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("client %d, request %d", c, n)
				path, body, events := "/v1/events", fmt.Sprintf(`{"action_type":"load","input_summary":%q}`, name), 1
				if n%5 == 4 {
					one := fmt.Sprintf(`{"action_type":"load","input_summary":%q}`, name)
					path, body, events = "/v1/events/batch", `{"events":[`+strings.Repeat(one+",", 9)+one+`]}`, 10
				}
				for ctx.Err() == nil {
					if post(ctx, client, through+path, key, name, body) {
						mu.Lock()
						acknowledged[name] = events
						mu.Unlock()
						break
					}
					mu.Lock()
					retried++
					mu.Unlock()
					time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
				}
			}
		})
	}
	pause := func() { time.Sleep(time.Duration(300+rand.IntN(400)) * time.Millisecond) }
	for range *kills {
		pause()
		p.kill()
		p.start()
		pause()
		d.Restart(t)
		database.To(t, d.URL("konstruct_app"))
		pause()
		database.Drop()
		clients.Drop()
		pause()
		database.Cut(true)
		clients.Cut(true)
		pause()
		database.Cut(false)
		clients.Cut(false)
	}
	mu.Lock()
	before := len(acknowledged)
	mu.Unlock()
	testkit.Until(t, "more than 64 requests acknowledged after the last fault", func() bool {
		// all clients come through
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)-before > 64
	})
	stop()
	writers.Wait()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("stopped: %v\n%s", err, p.log)
	}

	k, err = konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: d.URL("konstruct_app")})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	there := map[string]int{}
	for e, err := range k.Tenant(acme).Events().All(t.Context(), audit.Filter{Action: "load"}) {
		if err != nil {
			t.Fatal(err)
		}
		there[*e.Input]++
	}
	lost, doubled, events := 0, 0, 0
	for name, n := range acknowledged {
		if events += n; there[name] < n {
			lost++
		}
	}
	for name, n := range there {
		if want := acknowledged[name]; want > 0 && n > want || n > 10 {
			doubled++
		}
	}
	t.Logf("%d rounds: %d requests with %d events acknowledged, %d tries again, %d lost, %d doubled", *kills,
		len(acknowledged), events, retried, lost, doubled)
	if lost > 0 || doubled > 0 || events == 0 || retried == 0 {
		t.Errorf("%d of %d requests lost, %d doubled, %d tries again", lost, len(acknowledged), doubled, retried)
	}
}

// post sends one request; it is done when it is answered with 201.
func post(ctx context.Context, client *http.Client, url, key, name, body string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return false
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", name)
	res, err := client.Do(r)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err == nil && res.StatusCode == http.StatusCreated
}
