package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
)

// lostBytes is the size of the file that counts lost events. It is written in place, so that it needs no room on a
// disk that is full.
const lostBytes = 1024

// lost counts events that could not be kept.
type lost struct {
	ID     uuid.UUID `json:"id"` // of the event that will say so
	Events int       `json:"events"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Reason string    `json:"reason"`
}

// reserveLost makes the file, with all of its room.
func (s *spool) reserveLost() error {
	f, err := os.OpenFile(filepath.Join(s.dir, lostName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		_, err = f.Write(bytes.Repeat([]byte(" "), lostBytes))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("make the spool: %w", err)
	}
	return nil
}

// change changes the count under its lock.
func (s *spool) changeLost(change func(*lost) error) error {
	f, err := os.OpenFile(filepath.Join(s.dir, lostName), os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("count lost events: %w", err)
	}
	defer f.Close()
	if err := lockFile(f, true); err != nil {
		return fmt.Errorf("count lost events: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, lostBytes))
	if err != nil {
		return fmt.Errorf("count lost events: %w", err)
	}
	var l lost
	_ = json.Unmarshal(bytes.TrimSpace(raw), &l) // empty, or torn: count anew
	before := l
	if err := change(&l); err != nil || l == before {
		return err
	}
	out := []byte{}
	if l != (lost{}) {
		if out, err = json.Marshal(l); err != nil {
			return fmt.Errorf("count lost events: %w", err)
		}
	}
	out = append(out, bytes.Repeat([]byte(" "), max(0, lostBytes-len(out)))...)
	if _, err = f.WriteAt(out[:lostBytes], 0); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("count lost events: %w", err)
	}
	return nil
}

// addLost counts events that were not kept.
func (s *spool) addLost(n int, reason error, now time.Time) error {
	return s.changeLost(func(l *lost) (err error) {
		if l.Events == 0 {
			if l.ID, err = uuid.NewV7(); err != nil {
				return fmt.Errorf("count lost events: %w", err)
			}
			l.First = now.UTC()
		}
		l.Events, l.Last = l.Events+n, now.UTC()
		text, _ := storable(reason.Error())
		l.Reason = text[:min(len(text), 400)]
		return nil
	})
}

// reportLost puts an event that says what was lost into the spool, once there is room, and counts anew.
func (s *spool) reportLost(encode func(Event) ([]byte, error)) error {
	return s.changeLost(func(l *lost) error {
		if l.Events == 0 {
			return nil
		}
		line, err := encode(Event{ID: l.ID, Action: ActionGap, At: l.Last,
			Input:    fmt.Sprintf("%d events could not be kept on the agent's machine", l.Events),
			Metadata: map[string]any{"events": l.Events, "from": l.First, "until": l.Last, "reason": l.Reason}})
		if err == nil {
			err = s.put([][]byte{line})
		}
		if err == nil {
			*l = lost{}
		}
		return err
	})
}
