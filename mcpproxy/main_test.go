package mcpproxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/mcpproxy"
	"github.com/konstruct/konstruct/toolrule"
)

// role tells this test binary to be another program.
const role = "MCPPROXY_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "server":
		mcptest.Main()
	case "mirror": // sends back every byte
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "deaf": // ignores the end of its input
		_, _ = io.Copy(io.Discard, os.Stdin)
		time.Sleep(time.Minute)
	case "cat": // sends a file, and waits for the end of its input
		raw, err := os.ReadFile(os.Getenv("MCPPROXY_TEST_FILE"))
		if err != nil {
			os.Exit(1)
		}
		_, _ = os.Stdout.Write(raw)
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "proxy":
		p := mcpproxy.Stdio{
			Config:  mcpproxy.Config{Server: "test", Trail: &fileTrail{path: os.Getenv("MCPPROXY_TEST_TRAIL")}},
			Command: []string{os.Args[0]},
			Env:     append(os.Environ(), role+"="+os.Getenv("MCPPROXY_TEST_SERVER")),
			In:      os.Stdin,
			Out:     os.Stdout,
			Err:     os.Stderr,
		}
		code, err := p.Run(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	default:
		os.Exit(m.Run())
	}
}

// trail keeps events in memory, and people answer escalations with resolve.
type trail struct {
	mu       sync.Mutex
	events   []audit.Event
	resolved map[uuid.UUID]*mcpproxy.Resolution
	closed   map[uuid.UUID]string
	nobody   bool
	fails    error
}

func (r *trail) Record(_ context.Context, e audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails != nil {
		return r.fails
	}
	r.events = append(r.events, e)
	return nil
}

func (r *trail) Escalate(ctx context.Context, e audit.Event) error {
	if r.nobody {
		return mcpproxy.ErrNobody
	}
	return r.Record(ctx, e)
}

func (r *trail) Await(ctx context.Context, id uuid.UUID) (*mcpproxy.Resolution, error) {
	for {
		r.mu.Lock()
		found := r.resolved[id]
		r.mu.Unlock()
		if found != nil {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (r *trail) Cancel(_ context.Context, id uuid.UUID, reason string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = map[uuid.UUID]string{}
	}
	r.closed[id] = reason
	return nil
}

// resolve waits for an escalation and answers it.
func (r *trail) resolve(t *testing.T, decision string) uuid.UUID {
	t.Helper()
	for range 200 {
		for _, e := range r.recorded() {
			r.mu.Lock()
			if e.Action == audit.ActionEscalation && r.resolved[e.ID] == nil {
				if r.resolved == nil {
					r.resolved = map[uuid.UUID]*mcpproxy.Resolution{}
				}
				r.resolved[e.ID] = &mcpproxy.Resolution{By: "ada", Decision: decision}
				r.mu.Unlock()
				return e.ID
			}
			r.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("nobody was asked")
	return uuid.Nil
}

func (r *trail) recorded() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]audit.Event(nil), r.events...)
}

// wait waits for a number of events.
func (r *trail) wait(t *testing.T, n int) []audit.Event {
	t.Helper()
	for range 500 {
		if all := r.recorded(); len(all) >= n {
			return all
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%d events are recorded, want %d: %+v", len(r.recorded()), n, r.recorded())
	return nil
}

// metadata returns an event's metadata.
func metadata(t *testing.T, e audit.Event) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(e.Metadata, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// fileTrail appends events to a file as lines, for a proxy in another process.
type fileTrail struct {
	trail
	path string
}

func (f *fileTrail) Record(_ context.Context, e audit.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(e)
	if err == nil {
		_, err = out.Write(append(raw, '\n'))
	}
	return errors.Join(err, out.Close())
}

func readTrail(t *testing.T, path string) (all []audit.Event) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// proxied is a running proxy in this process, with a server in another.
type proxied struct {
	trail *trail
	in    *io.PipeWriter // to the proxy
	out   *io.PipeReader // from the proxy
	code  chan int
}

// startProxy starts a proxy for a server of this test binary.
func startProxy(t *testing.T, server string, change ...func(*mcpproxy.Stdio)) *proxied {
	t.Helper()
	p := &proxied{trail: &trail{}, code: make(chan int, 1)}
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	p.in, p.out = inWrite, outRead
	c := mcpproxy.Stdio{Config: mcpproxy.Config{Server: "test", Trail: p.trail}, Command: []string{os.Args[0]},
		Env: append(os.Environ(), role+"="+server), In: inRead, Out: outWrite, Err: io.Discard}
	for _, f := range change {
		f(&c)
	}
	go func() {
		code, err := c.Run(context.Background())
		if err != nil {
			t.Error(err)
		}
		outWrite.Close()
		p.code <- code
	}()
	t.Cleanup(func() { inWrite.Close() })
	return p
}

// connect connects a client of the official SDK in a protocol revision; empty is the newest.
func (p *proxied) connect(t *testing.T, revision string, o *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "tester", Version: "9"}, o)
	session, err := client.Connect(t.Context(), &mcp.IOTransport{Reader: p.out, Writer: p.in},
		&mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func (p *proxied) exit(t *testing.T) int {
	t.Helper()
	select {
	case code := <-p.code:
		return code
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy does not end")
		return 0
	}
}

// lines reads the proxy's output line by line.
func (p *proxied) lines() *bufio.Reader { return bufio.NewReaderSize(p.out, 1<<20) }

func (p *proxied) send(t *testing.T, frames ...string) {
	t.Helper()
	for _, f := range frames {
		if _, err := io.WriteString(p.in, f); err != nil {
			t.Error(err)
		}
	}
}

func rules(t *testing.T, raw string) *toolrule.Set {
	t.Helper()
	list, err := toolrule.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	set, err := toolrule.New(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func withRules(t *testing.T, raw string) func(*mcpproxy.Stdio) {
	return func(c *mcpproxy.Stdio) { c.Decide = rules(t, raw).Decide }
}

// proxyCommand runs a proxy in a process of its own, which a test may kill.
func proxyCommand(t *testing.T, server string) (cmd *exec.Cmd, trailFile string) {
	t.Helper()
	trailFile = t.TempDir() + "/trail"
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"=proxy", "MCPPROXY_TEST_SERVER="+server, "MCPPROXY_TEST_TRAIL="+trailFile)
	return cmd, trailFile
}
