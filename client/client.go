package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/redact"
)

// Config configures a Client.
type Config struct {
	// URL is the service's address, as http://127.0.0.1:7117. Empty: events wait in the spool, and only the rules in
	// RulesFile apply.
	URL string
	// Key is an API key with events:write.
	Key string
	// SpoolDir is the folder of events that the service does not have yet. Any number of processes share it; within it,
	// each service and key has a folder of its own, so that no event reaches another tenant's trail.
	SpoolDir string
	// SpoolLimit bounds the events that wait, in bytes; 0 is DefaultSpoolLimit.
	SpoolLimit int64
	// RulesFile is a file of further rules on calls of tools, {"tools": […]}; empty: the service's alone.
	RulesFile string
	// RedactKey is the operator's key for redaction (redact.MinKey bytes or more). With it, rules that redact apply
	// before an event is kept in the spool; without it, the service applies them when it gets the event.
	RedactKey []byte
	// FailClosed denies calls whose rules are unknown, and calls that can't be recorded. Otherwise they pass.
	FailClosed bool
	// AgentID and UserID are those of events that have none.
	AgentID uuid.UUID
	UserID  string
	// UserAgent names the program to the service, as konstruct-hook/0.1.
	UserAgent string
	// HTTP sends the requests; nil is a client of its own, which uses the environment's proxies.
	HTTP *http.Client
	// Logger gets what the caller can't be told; nil discards it.
	Logger *slog.Logger
}

// Client keeps events on disk until the service has them. It is safe for concurrent use, and by many processes with one
// spool.
type Client struct {
	c      Config
	spool  *spool
	wake   chan struct{} // holds one token when there is something to deliver
	clock  func() time.Time
	server *url.URL

	mu    sync.Mutex
	rules *ruleSets
}

// Times of requests to the service.
const (
	requestTime = 10 * time.Second
	rulesTime   = time.Second // for rules that a call waits for
)

// Open opens the client's spool, and makes it if needed. It asks the service nothing.
func Open(c Config) (*Client, error) {
	if c.SpoolDir == "" {
		return nil, errors.New("the client needs a folder for its spool")
	}
	if len(c.RedactKey) > 0 && len(c.RedactKey) < redact.MinKey {
		return nil, fmt.Errorf("the key for redaction has %d bytes, the least is %d", len(c.RedactKey), redact.MinKey)
	}
	k := &Client{c: c, wake: make(chan struct{}, 1), clock: time.Now}
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return nil, fmt.Errorf("%.100q is no address of a service, as http://127.0.0.1:7117", c.URL)
		}
		if c.Key == "" || strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, errors.New("the service needs a key: konstruct key create NAME --permission events:write")
		}
		k.server = u
	}
	if k.c.Logger == nil {
		k.c.Logger = slog.New(slog.DiscardHandler)
	}
	if k.c.HTTP == nil {
		k.c.HTTP = &http.Client{}
	}
	k.c.UserAgent = cmp.Or(c.UserAgent, "konstruct-client")
	var err error
	if k.spool, err = openSpool(filepath.Join(c.SpoolDir, folderOf(c.URL, c.Key)), c.SpoolLimit); err != nil {
		return nil, err
	}
	return k, nil
}

// Dir returns the folder of this service and key within the spool, in which the caller may keep more.
func (c *Client) Dir() string { return c.spool.dir }

// Folder returns the spool's folder.
func (c *Client) Folder() string { return c.spool.dir }

// Redacts reports whether this machine has the key to redact events before it keeps them.
func (c *Client) Redacts() bool { return len(c.c.RedactKey) > 0 }

// Log keeps one event; see LogBatch.
func (c *Client) Log(ctx context.Context, e Event) error { return c.LogBatch(ctx, []Event{e}) }

// LogBatch keeps events on this machine's disk and returns. They reach the service when this process or another one
// delivers (Deliver, Run): once each, since each has its id from here on. If they can't be kept, they are counted, and
// the trail gets a capture_gap event; the error then says why.
func (c *Client) LogBatch(ctx context.Context, events []Event) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the events were not kept: %w", err)
	}
	lines := make([][]byte, 0, len(events))
	var failed error
	for _, e := range events {
		line, err := c.encode(e)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		lines = append(lines, line)
	}
	gone := len(events) - len(lines)
	if len(lines) > 0 {
		if err := c.spool.put(lines); err != nil {
			failed, gone = errors.Join(failed, err), len(events)
		}
	}
	if failed != nil {
		return errors.Join(failed, c.spool.addLost(gone, failed, c.clock()))
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

func (c *Client) encode(e Event) ([]byte, error) {
	if e.AgentID == uuid.Nil {
		e.AgentID = c.c.AgentID
	}
	e.UserID = cmp.Or(e.UserID, c.c.UserID)
	return e.encode(c.clock())
}

// Writable says why events can't be kept now, nil if they can.
func (c *Client) Writable() error {
	if _, err := os.Lstat(c.spool.path(fullName)); err == nil {
		return ErrFull
	}
	return nil
}

// Status is a spool's.
type Status struct {
	Files    int       `json:"waiting_files"`
	Bytes    int64     `json:"waiting_bytes"`
	Limit    int64     `json:"limit_bytes"`
	Oldest   time.Time `json:"oldest,omitzero"`
	Rejected int       `json:"rejected_events"`
	Lost     int       `json:"lost_events"` // not kept, and not yet on the trail as a capture_gap
	Problem  string    `json:"problem,omitempty"`
}

// Status counts what waits.
func (c *Client) Status() (st Status, err error) {
	st.Limit = c.spool.limit
	if st.Files, st.Bytes, st.Oldest, err = c.spool.measure(); err != nil {
		return st, err
	}
	rejected, err := os.ReadDir(c.spool.path(rejectedDir))
	if err != nil {
		return st, fmt.Errorf("read the spool: %w", err)
	}
	st.Rejected = len(rejected)
	err = c.spool.changeLost(func(l *lost) error {
		st.Lost = l.Events
		return nil
	})
	st.Problem = c.spool.readState().Problem
	return st, err
}
