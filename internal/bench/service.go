package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/kb"
)

// ServiceConfig configures Service.
type ServiceConfig struct {
	Program string // whose `serve` is measured, as a process of its own
	Parts   string
	Clients int           // with connections that are kept
	Time    time.Duration // of the mix
	Env     []string      // further settings of the process
	// Measured is called with each measurement when it is complete.
	Measured func(Measurement)
}

// The mix of requests, and the factor by which the service is overloaded.
const (
	ofEvents   = 0.7 // single
	ofSearches = 0.2 // the rest are batches
	batchSize  = 100
	overload   = 5
	inFlight   = 4000 // requests of the overload that wait for an answer at most
)

// mixTenants is the number of tenants to which the clients belong.
const mixTenants = 16

// service is a running service and its credentials.
type service struct {
	url    string
	pid    int
	keys   []string
	client *http.Client
	batch  []byte
}

// Service measures the HTTP API: batches beside the library's, a mix of requests by many clients, an overload, and the
// mix again.
func (b *Bench) Service(ctx context.Context, s ServiceConfig) (lines []Measurement, err error) {
	add := func(l Measurement) {
		lines = append(lines, l)
		s.Measured(l)
	}
	k, sv, stop, err := b.serving(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	pair, err := b.batches(ctx, k, sv)
	if err != nil {
		return nil, err
	}
	for _, l := range pair {
		add(l)
	}
	// Warm up connections, caches and prepared statements.
	if _, err := sv.load(ctx, s.Clients, min(s.Time, 5*time.Second), 0); err != nil {
		return nil, err
	}
	before, err := memory(sv.pid)
	if err != nil {
		return nil, err
	}
	mix, err := sv.load(ctx, s.Clients, s.Time, 0)
	if err != nil {
		return nil, err
	}
	after, err := memory(sv.pid)
	if err != nil {
		return nil, err
	}
	first := mix.line(fmt.Sprintf("%d clients: 70 %% events, 20 %% searches, 10 %% batches of %d",
		s.Clients, batchSize))
	first.Note += fmt.Sprintf(", memory %d to %d MB", before>>20, after>>20)
	add(first)
	over, err := sv.load(ctx, inFlight, min(s.Time, 30*time.Second), first.Rate*overload)
	if err != nil {
		return nil, err
	}
	l := over.line(fmt.Sprintf("%d times as much, what was accepted", overload)).against(first)
	l.Note += fmt.Sprintf(", %.0f/s asked", over.asked())
	add(l)
	again, err := sv.load(ctx, s.Clients, min(s.Time, 10*time.Second), 0)
	if err != nil {
		return nil, err
	}
	add(again.line("the mix again, at once after it").against(first))
	return lines, nil
}

// serving starts the process, with documents and keys.
func (b *Bench) serving(ctx context.Context,
	s ServiceConfig) (k *konstruct.Konstruct, sv *service, stop func() error, err error) {
	secret := strings.Repeat("bench", 8)
	path := filepath.Join(b.Dir, "secret")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		return nil, nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(s.Program, "serve", "--no-work")
	cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+b.url("konstruct_app"),
		"KONSTRUCT_NOTARY_DATABASE_URL="+b.url("konstruct_notary"), "KONSTRUCT_DATA_DIR="+filepath.Join(b.Dir, "serve"),
		"KONSTRUCT_KEY_SECRET_FILE="+path, "KONSTRUCT_LISTEN="+addr, "KONSTRUCT_ASSETS_DIR="+s.Parts)
	cmd.Env = append(cmd.Env, s.Env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, err
	}
	if k, err = konstruct.Open(ctx,
		konstruct.Config{DatabaseURL: b.url("konstruct_app"), AssetsDir: s.Parts,
			KeySecret: []byte(secret)}); err != nil {
		return nil, nil, nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	stop = func() error {
		err := k.Close()
		if e := cmd.Process.Signal(syscall.SIGTERM); e != nil {
			return errors.Join(err, e)
		}
		return errors.Join(err, cmd.Wait())
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxIdleConns = inFlight, inFlight
	sv = &service{url: "http://" + addr, pid: cmd.Process.Pid,
		client: &http.Client{Transport: transport, Timeout: time.Minute}, batch: batchJSON()}
	fill := func() error {
		for i := range mixTenants {
			t := k.Tenant(uuid.NewSHA1(tenant, []byte{byte(i)}))
			id := uuid.NewSHA1(tenant, []byte{byte(i), 1})
			key, _, err := t.Keys().Create(ctx, access.LocalOperator(id, "bench"),
				access.KeyRequest{Name: "bench", Permissions: access.Operator.Permissions()})
			if err != nil {
				return err
			}
			sv.keys = append(sv.keys, key)
			made := kb.PreparedDocument{Source: "bench:1", Filename: "handbook", ContentType: "text/plain",
				Title: "Handbook"}
			for n := range 20 {
				text := fmt.Sprintf("Passage %d says how a pump of kind %d is sent back, cleaned and mended.", n, n*7)
				made.Chunks = append(made.Chunks, chunk.Chunk{Content: text, Embed: text})
			}
			if err := t.Agent(id).EmbedAndStore(ctx, []kb.PreparedDocument{made}); err != nil {
				return err
			}
		}
		for range 300 {
			if res, err := sv.client.Get(sv.url + "/readyz"); err == nil {
				res.Body.Close()
				if res.StatusCode == http.StatusOK {
					return nil
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		return errors.New("the service is not ready after 30 s")
	}
	if err := fill(); err != nil {
		return nil, nil, nil, errors.Join(err, stop())
	}
	return k, sv, stop, nil
}

// eventJSON is one event as agents write them.
const eventJSON = `{"action_type":"tool_invocation","agent_id":"be9c0000-0000-4000-8000-000000000002",` +
	`"user_id":"user-17","input_summary":"{\"order\":17,\"fields\":[\"state\",\"carrier\"]}",` +
	`"output_summary":"the order left the warehouse on Tuesday and is with the carrier","latency_ms":120,` +
	`"metadata":{"gen_ai.operation.name":"execute_tool","gen_ai.tool.name":"lookup_order",` +
	`"gen_ai.tool.call.id":"call_81","gen_ai.conversation.id":"order-17"}}`

func batchJSON() []byte {
	return []byte(`{"events":[` + strings.Repeat(eventJSON+",", batchSize-1) + eventJSON + `]}`)
}

// batches measures batches by the library and by HTTP, in turns.
func (b *Bench) batches(ctx context.Context, k *konstruct.Konstruct, sv *service) ([]Measurement, error) {
	const atOnce = 8
	t := k.Tenant(tenant)
	var said struct {
		Agent    uuid.UUID       `json:"agent_id"`
		User     string          `json:"user_id"`
		Action   string          `json:"action_type"`
		Input    string          `json:"input_summary"`
		Output   string          `json:"output_summary"`
		Latency  int             `json:"latency_ms"`
		Metadata json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(eventJSON), &said); err != nil {
		return nil, err
	}
	events := make([]konstruct.Event, batchSize)
	for i := range events {
		events[i] = konstruct.Event{AgentID: said.Agent, UserID: said.User, Action: said.Action, Input: said.Input,
			Output: said.Output, Latency: time.Duration(said.Latency) * time.Millisecond, Metadata: said.Metadata}
	}
	var n atomic.Int64
	short := *b
	short.Time = min(b.Time, 12*time.Second) // the mix is what is long
	lines, err := short.alternateN(ctx, 4, "events", batchSize,
		contender{fmt.Sprintf("the library: batches of %d, %d at once", batchSize, atOnce), atOnce, func(int) error {
			_, err := t.LogBatch(ctx, events)
			return err
		}},
		contender{fmt.Sprintf("HTTP: batches of %d, %d at once", batchSize, atOnce), atOnce, func(int) error {
			status, _, err := sv.ask(ctx, int(n.Add(1)), "/v1/events/batch", sv.batch)
			if err == nil && status != http.StatusCreated {
				err = fmt.Errorf("a batch is answered with %d", status)
			}
			return err
		}})
	if err == nil {
		lines[1] = lines[1].against(lines[0])
	}
	return lines, err
}

// ask sends one request with one of the keys, and returns the status and Retry-After.
func (sv *service) ask(ctx context.Context, n int, path string, body []byte) (status int, after string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, sv.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+sv.keys[n%len(sv.keys)])
	r.Header.Set("Content-Type", "application/json")
	res, err := sv.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, "", err
	}
	return res.StatusCode, res.Header.Get("Retry-After"), nil
}

// loadResult is the result of a load.
type loadResult struct {
	mu     sync.Mutex
	took   time.Duration
	times  []time.Duration // of what was accepted
	status map[int]int
	events int
	mute   int // sent away without Retry-After
	failed error
}

// load has clients send the mix for some time: each again as soon as it has a response or, if perSecond is not zero,
// perSecond requests in total.
func (sv *service) load(ctx context.Context, clients int, length time.Duration,
	perSecond float64) (*loadResult, error) {
	l := &loadResult{status: map[int]int{}}
	ctx, cancel := context.WithTimeout(ctx, length+time.Minute)
	defer cancel()
	begin := time.Now()
	end := begin.Add(length)
	due := make(chan int)
	go func() {
		defer close(due)
		for n := 0; ; n++ {
			if perSecond > 0 {
				if wait :=
					time.Until(begin.Add(time.Duration(float64(n) / perSecond * float64(time.Second)))); wait > 0 {
					time.Sleep(wait)
				}
			}
			if time.Now().After(end) {
				return
			}
			select {
			case due <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for n := range due {
				l.note(sv.one(ctx, n))
			}
		})
	}
	wg.Wait()
	l.took = time.Since(begin)
	if l.failed == nil && len(l.times) == 0 {
		l.failed = fmt.Errorf("no request was done, of %d: %v answered by status",
			int(l.asked()*l.took.Seconds()+0.5), l.status)
	}
	return l, l.failed
}

// response is one answer.
type response struct {
	status, events int
	after          string
	took           time.Duration
	err            error
}

// one asks what comes next of the mix.
func (sv *service) one(ctx context.Context, n int) (a response) {
	path, body := "/v1/events", []byte(eventJSON)
	switch x := rand.Float64(); { // which of the three is all that is drawn
	case x < ofEvents:
		a.events = 1
	case x < ofEvents+ofSearches:
		path, body = "/v1/search", fmt.Appendf(nil, `{"text":"How is a pump of kind %d sent back?","top_k":5}`, n%50)
	default:
		path, body, a.events = "/v1/events/batch", sv.batch, batchSize
	}
	begin := time.Now()
	a.status, a.after, a.err = sv.ask(ctx, n, path, body)
	a.took = time.Since(begin)
	return a
}

func (l *loadResult) note(a response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case a.err != nil:
		l.failed = a.err
	case a.status < 300:
		l.times = append(l.times, a.took)
		l.events += a.events
	case (a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable) && a.after == "":
		l.mute++
	}
	l.status[a.status]++
}

// asked returns the requests per second.
func (l *loadResult) asked() float64 {
	n := 0
	for _, of := range l.status {
		n += of
	}
	return float64(n) / l.took.Seconds()
}

func (l *loadResult) line(what string) Measurement {
	slices.Sort(l.times)
	at := func(q float64) float64 {
		if len(l.times) == 0 {
			return 0
		}
		return float64(l.times[int(q*float64(len(l.times)-1))].Microseconds()) / 1000
	}
	errs := 0
	for status, n := range l.status {
		if status >= 300 && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			errs += n
		}
	}
	note := fmt.Sprintf("%.0f events/s, errors %d, sent away %d with 429 and %d with 503",
		float64(l.events)/l.took.Seconds(), errs, l.status[http.StatusTooManyRequests],
		l.status[http.StatusServiceUnavailable])
	if l.mute > 0 {
		note += fmt.Sprintf(", %d of them without Retry-After", l.mute)
	}
	return Measurement{What: what, Unit: "requests", Rate: float64(len(l.times)) / l.took.Seconds(), P50: at(0.5),
		P99: at(0.99), Note: note}
}

// memory returns the resident memory of a process.
func memory(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kb << 10, err
}
