package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
)

// Limits of delivery.
const (
	batchEvents = 500
	batchBytes  = 4 << 20
	firstRetry  = 250 * time.Millisecond
	lastRetry   = 30 * time.Second
	lookAgain   = 200 * time.Millisecond // how often Run looks for what other processes keep
	rulesAge    = 30 * time.Second       // how often the rules are fetched again
)

// ErrDelivering is returned while another process delivers from the spool.
var ErrDelivering = errors.New("another process delivers from this spool")

// Delivery counts what a delivery did.
type Delivery struct {
	Delivered int `json:"delivered"`
	Rejected  int `json:"rejected"` // refused by the service for good; kept in the folder rejected
}

// state is what one process tells the next.
type state struct {
	Problem string    `json:"problem,omitempty"` // why nothing can be delivered
	Since   time.Time `json:"since,omitzero"`
	Tries   int       `json:"tries,omitempty"` // since then
	Next    time.Time `json:"next,omitzero"`   // when to try again
}

func (s *spool) path(name string) string { return filepath.Join(s.dir, name) }

func (s *spool) readState() (st state) {
	raw, err := os.ReadFile(s.path(stateName))
	if err == nil && json.Unmarshal(raw, &st) != nil {
		return state{}
	}
	return st
}

// remember writes what the last try came to. It is a hint for other processes, and need not survive a crash.
func (s *spool) remember(problem error, now time.Time) {
	before := s.readState()
	var st state
	if problem != nil {
		st = state{Problem: problem.Error(), Since: before.Since, Tries: before.Tries + 1}
		if before.Problem == "" {
			st.Since, st.Tries = now.UTC(), 1
		}
		pause := min(firstRetry<<min(st.Tries-1, 10), lastRetry)
		var away *unavailableError
		if errors.As(problem, &away) {
			pause = max(pause, away.after)
		}
		st.Next = now.UTC().Add(pause)
	}
	if st == before {
		return
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return
	}
	tmp := s.path(filepath.Join(tmpDir, stateName+uuid.NewString()))
	if os.WriteFile(tmp, raw, 0o600) == nil && os.Rename(tmp, s.path(stateName)) != nil {
		_ = os.Remove(tmp)
	}
}

// Due reports whether something waits and it is time to try to deliver it, and nobody does.
func (c *Client) Due() bool {
	if c.server == nil || c.clock().Before(c.spool.readState().Next) {
		return false
	}
	release, err := c.spool.lock()
	if err != nil {
		return false
	}
	release()
	return true
}

// lock takes the right to deliver.
func (s *spool) lock() (release func(), err error) {
	f, err := os.OpenFile(s.path(lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	if err := lockFile(f, false); err != nil {
		_ = f.Close()
		if errors.Is(err, errLocked) {
			err = ErrDelivering
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// Deliver sends what waits to the service, oldest first, until nothing waits. What the service refuses for good is set
// aside. It fails with ErrDelivering, ErrNoService, or why the service can't take events now; they wait on.
func (c *Client) Deliver(ctx context.Context) (d Delivery, err error) {
	if c.server == nil {
		return d, ErrNoService
	}
	release, err := c.spool.lock()
	if err != nil {
		return d, err
	}
	defer release()
	return c.deliver(ctx)
}

// deliver sends what waits; the caller has the lock.
func (c *Client) deliver(ctx context.Context) (d Delivery, err error) {
	defer func() {
		if ctx.Err() == nil {
			c.spool.remember(err, c.clock())
		}
		_, _, _, _ = c.spool.measure()
	}()
	for {
		names, err := c.spool.waiting()
		if err != nil {
			return d, err
		}
		if len(names) == 0 {
			if _, _, _, err = c.spool.measure(); err == nil { // there is room now
				err = c.spool.reportLost(c.encode)
			}
			if names, _ = c.spool.waiting(); err != nil || len(names) == 0 {
				return d, err
			}
		}
		for len(names) > 0 {
			n, err := c.deliverSome(ctx, names, &d)
			if err != nil {
				return d, err
			}
			names = names[n:]
		}
	}
}

// deliverSome sends the events of the first files in one batch, and returns how many files that were.
func (c *Client) deliverSome(ctx context.Context, names []string, d *Delivery) (files int, err error) {
	var events [][]byte
	size := 0
	for files < len(names) && len(events) < batchEvents && size < batchBytes {
		lines, err := c.spool.read(names[files])
		if err != nil {
			return 0, err
		}
		for _, line := range lines {
			if !json.Valid(line) || line[0] != '{' { // somebody else wrote into the spool
				if err := c.setAside(line, errors.New("it is no JSON object")); err != nil {
					return 0, err
				}
				d.Rejected++
				continue
			}
			events, size = append(events, line), size+len(line)
		}
		files++
	}
	if err := c.send(ctx, events, d); err != nil {
		return 0, err
	}
	for _, name := range names[:files] {
		if err := c.spool.done(name); err != nil {
			return 0, err
		}
	}
	return files, nil
}

// send sends events in one batch. If the service refuses them, it sends each half by itself, down to the refused event,
// which is set aside.
func (c *Client) send(ctx context.Context, events [][]byte, d *Delivery) error {
	if len(events) == 0 {
		return nil
	}
	body := append([]byte(`{"events":[`), bytes.Join(events, []byte(","))...)
	body = append(body, "]}"...)
	within, cancel := context.WithTimeout(ctx, requestTime)
	var got struct {
		IDs []uuid.UUID `json:"ids"`
	}
	status, _, err := c.do(within, http.MethodPost, "/v1/events/batch", body, &got)
	cancel()
	if err == nil && status == http.StatusAccepted {
		return &unavailableError{errors.New("the service can't write the trail now, and the tenant's calls go on: " +
			"the events wait here"), 0}
	}
	if err == nil && len(got.IDs) != len(events) {
		return &unavailableError{fmt.Errorf("%s is no Konstruct service: it took %d of %d events", c.server.Host,
			len(got.IDs), len(events)), 0}
	}
	var refused *RefusedError
	var away *unavailableError
	if err == nil || errors.As(err, &away) || !errors.As(err, &refused) || !refused.ofEvents() {
		if err == nil {
			d.Delivered += len(events)
		}
		return err
	}
	if half := len(events) / 2; half > 0 {
		if err := c.send(ctx, events[:half], d); err != nil {
			return err
		}
		return c.send(ctx, events[half:], d)
	}
	if err := c.setAside(events[0], refused); err != nil {
		return err
	}
	d.Rejected++
	return nil
}

// Rejected is an event that the service refused for good.
type Rejected struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Event  json.RawMessage `json:"event"`
}

// setAside keeps an event that the service refused, with the reason, for a person to examine.
func (c *Client) setAside(line []byte, reason error) error {
	event := json.RawMessage(line)
	if !json.Valid(line) {
		event, _ = json.Marshal(string(line))
	}
	raw, err := json.Marshal(Rejected{c.clock().UTC(), reason.Error(), event})
	if err != nil {
		return fmt.Errorf("set an event aside: %w", err)
	}
	// Its name comes from its content: if this process is killed now, the next one sets it aside under the same name.
	name := uuid.NewSHA1(uuid.Nil, line).String() + ".json"
	if err := c.spool.write(filepath.Join(rejectedDir, name), raw); err != nil {
		return err
	}
	c.c.Logger.Error("the service refuses an event; it is kept", "file", c.spool.path(filepath.Join(rejectedDir, name)),
		"error", reason)
	return nil
}

// Rejects reads the events that were set aside.
func (c *Client) Rejects() (all []Rejected, err error) {
	entries, err := os.ReadDir(c.spool.path(rejectedDir))
	if err != nil {
		return nil, fmt.Errorf("read the rejected events: %w", err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(c.spool.path(filepath.Join(rejectedDir, e.Name())))
		var r Rejected
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		if err != nil {
			return nil, fmt.Errorf("read the rejected events: %s: %w", e.Name(), err)
		}
		all = append(all, r)
	}
	return all, nil
}

// patience is how long Run with an idle time goes on while the service is unavailable.
const patience = 10 * time.Minute

// Run delivers what this process and others keep, and fetches the rules, until ctx ends. While another process
// delivers, it waits for its turn. If idle is not zero, it ends when nothing has been there to deliver for that long,
// when the service has been unavailable for ten minutes, or with ErrDelivering.
func (c *Client) Run(ctx context.Context, idle time.Duration) error {
	if c.server == nil {
		return ErrNoService
	}
	for {
		release, err := c.spool.lock()
		if err == nil {
			c.runLocked(ctx, idle)
			release()
			if names, err := c.spool.waiting(); ctx.Err() != nil || err != nil || len(names) == 0 ||
				c.spool.readState().Problem != "" {
				return err
			}
			continue // kept just before the lock was released, by a process that saw it taken
		}
		if idle > 0 || !errors.Is(err, ErrDelivering) {
			return err
		}
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
}

// runLocked is Run with the right to deliver.
func (c *Client) runLocked(ctx context.Context, idle time.Duration) {
	c.spool.sweep()
	if _, err := c.Adopt(ctx, false); err != nil {
		c.c.Logger.Debug("events under other keys are left", "error", err)
	}
	var fetched time.Time
	last := c.clock() // when something was delivered, or waited
	for ctx.Err() == nil {
		now := c.clock()
		if now.Sub(fetched) > rulesAge {
			fetched = now
			if err := c.Refresh(ctx); err != nil {
				c.c.Logger.Debug("the rules can't be fetched", "error", err)
			}
		}
		st := c.spool.readState()
		if !now.Before(st.Next) {
			d, err := c.deliver(ctx)
			if err != nil && ctx.Err() == nil {
				c.c.Logger.Warn("events wait for the service", "folder", c.spool.dir, "error", err)
			}
			if d.Delivered+d.Rejected > 0 {
				last = c.clock()
			}
			st = c.spool.readState()
		}
		quiet := c.clock().Sub(last)
		if idle > 0 && (st.Problem == "" && quiet > idle || quiet > idle+patience) {
			return
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-time.After(max(lookAgain, min(st.Next.Sub(c.clock()), time.Second))):
		}
	}
}
