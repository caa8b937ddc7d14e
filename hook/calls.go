package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// calls are the calls in progress, each in a file of its own: the hook before a tool and the one after it are two
// processes.
type calls struct{ dir string }

// A call's file is in one of these folders. A rename moves it, so that of two processes one does.
const (
	runningDir  = "calls"
	finishedDir = "calls-done"   // an empty file: its event is kept
	closedDir   = "calls-closed" // its event is kept, without a result
	callSuffix  = ".json"
	// keepCalls is for how long it is known that a call is finished, and after which a call without a result is closed.
	keepCalls = 24 * time.Hour
)

// pending is a call in progress.
type pending struct {
	ID       uuid.UUID      `json:"id"` // of the event that will be kept
	Session  string         `json:"session"`
	Agent    string         `json:"agent,omitempty"`
	At       time.Time      `json:"at"` // when the tool could begin
	Input    string         `json:"input,omitempty"`
	Digest   string         `json:"digest"` // of the arguments, before redaction
	UserID   string         `json:"user,omitempty"`
	Metadata map[string]any `json:"metadata"`          // of its event, for when no result comes
	Verdict  map[string]any `json:"verdict,omitempty"` // what decided
}

// state is what is known of a call.
type state int

const (
	unknown state = iota
	waiting
	finished
	closed
)

func (c calls) path(folder, key string) string { return filepath.Join(c.dir, folder, key+callSuffix) }

func (c calls) folders() error {
	for _, folder := range []string{runningDir, finishedDir, closedDir} {
		if err := os.MkdirAll(filepath.Join(c.dir, folder), 0o700); err != nil {
			return fmt.Errorf("remember a call: %w", err)
		}
	}
	return nil
}

// add remembers a call. A call without an id of its own may be in progress several times.
func (c calls) add(key string, p pending) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("draw an event's id: %w", err)
	}
	p.ID = id
	raw, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("remember a call: %w", err)
	}
	if !strings.HasPrefix(key, "i") {
		key += "-" + id.String()
	}
	path := c.path(runningDir, key)
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp*")
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.folders(); err == nil {
			f, err = os.CreateTemp(filepath.Dir(path), ".tmp*")
		}
	}
	if err != nil {
		return fmt.Errorf("remember a call: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), path) // fails if it is there: then another hook of the same call was first
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("remember a call: %w", err)
	}
	return nil
}

// sortedEnd is the length of the end of a file's name by which calls are sorted: a UUIDv7, which begins with the time.
const sortedEnd = 36 + len(callSuffix)

// takenSuffix marks the file of a call without an id whose result is being recorded.
const takenSuffix = ".taken"

// take returns what is known of a call, and the key to finish it with.
func (c calls) take(key string) (p pending, taken string, s state, err error) {
	if !strings.HasPrefix(key, "i") {
		all, _ := filepath.Glob(c.path(runningDir, key+"-*"))
		if len(all) == 0 { // another hook has changed the arguments
			tool, _, _ := strings.Cut(key, "-")
			all, _ = filepath.Glob(c.path(runningDir, tool+"-*"))
		}
		slices.SortFunc(all, func(a, b string) int {
			return strings.Compare(a[len(a)-sortedEnd:], b[len(b)-sortedEnd:])
		})
		for _, path := range all {
			if os.Rename(path, path+takenSuffix) == nil { // otherwise another process has taken it
				p, err = readPending(path + takenSuffix)
				return p, strings.TrimSuffix(filepath.Base(path), callSuffix), waiting, err
			}
		}
		return p, key, unknown, nil
	}
	if _, err := os.Lstat(c.path(finishedDir, key)); err == nil {
		return p, key, finished, nil
	}
	for _, from := range []struct {
		folder string
		state  state
	}{{runningDir, waiting}, {closedDir, closed}} {
		p, err = readPending(c.path(from.folder, key))
		if err == nil {
			return p, key, from.state, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return p, key, unknown, err
		}
	}
	return p, key, unknown, nil
}

func readPending(path string) (p pending, err error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		return p, fmt.Errorf("the beginning of a call: %w", err)
	}
	return p, nil
}

// finish notes that a call's event is kept. It needs no sync: after a crash the call is closed, and its event's id
// shows that it is the same.
func (c calls) finish(key string) error {
	var err error
	if strings.HasPrefix(key, "i") { // for a second hook of the same call
		err = os.WriteFile(c.path(finishedDir, key), nil, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			if err = c.folders(); err == nil {
				err = os.WriteFile(c.path(finishedDir, key), nil, 0o600)
			}
		}
	}
	for _, path := range []string{c.path(runningDir, key), c.path(runningDir, key) + takenSuffix} {
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	if err != nil {
		return fmt.Errorf("finish a call: %w", err)
	}
	return nil
}

// close notes that a call's event is kept without a result.
func (c calls) close(key string) error {
	err := os.Rename(c.path(runningDir, key), c.path(closedDir, key))
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(c.path(runningDir, key)+takenSuffix, c.path(closedDir, key))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("close a call: %w", err)
	}
	return nil
}

// each calls do with each call in progress, the oldest first.
func (c calls) each(do func(key string, p pending) error) error {
	entries, err := os.ReadDir(filepath.Join(c.dir, runningDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("calls in progress: %w", err)
	}
	type one struct {
		key string
		p   pending
	}
	var all []one
	for _, e := range entries {
		key, ok := strings.CutSuffix(strings.TrimSuffix(e.Name(), takenSuffix), callSuffix)
		if !ok || strings.HasPrefix(key, ".") {
			continue
		}
		if p, err := readPending(filepath.Join(c.dir, runningDir, e.Name())); err == nil && p.Metadata != nil {
			all = append(all, one{key, p})
		}
	}
	slices.SortFunc(all, func(a, b one) int { return a.p.At.Compare(b.p.At) })
	for _, o := range all {
		err = errors.Join(err, do(o.key, o.p))
	}
	return err
}

// sweep forgets calls that ended a day ago.
func (c calls) sweep(now time.Time) {
	for _, folder := range []string{finishedDir, closedDir, runningDir} {
		entries, _ := os.ReadDir(filepath.Join(c.dir, folder))
		for _, e := range entries {
			running := folder == runningDir && !strings.HasPrefix(e.Name(), ".") // closed by CloseOld
			if st, err := e.Info(); err == nil && !running && now.Sub(st.ModTime()) > keepCalls {
				_ = os.Remove(filepath.Join(c.dir, folder, e.Name()))
			}
		}
	}
}
