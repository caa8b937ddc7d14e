package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/spool"
)

// rejectedName is the file of events that were acknowledged and that the database then refused: a JSON
// object a line.
const rejectedName = "rejected.jsonl"

// Rejected is an event that the database refused. It stays in the spool's folder until it is retried.
type Rejected struct {
	Tenant uuid.UUID `json:"tenant_id"`
	Event  uuid.UUID `json:"event_id"`
	Agent  uuid.UUID `json:"agent_id"`
	Action string    `json:"action_type"`
	At     time.Time `json:"rejected_at"`
	Reason string    `json:"reason"`
	Record []byte    `json:"record"` // the event as the spool keeps it
}

// maxRejected is how many bytes of refused events are kept. Past it delivery stops, the spool fills and
// callers wait: a person must look.
const maxRejected = 256 << 20

// rejectStore writes the file.
type rejectStore struct {
	dir   string
	limit int64
	mu    sync.Mutex
	n     int
}

func (r *rejectStore) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func (r *rejectStore) count() error {
	list, err := ReadRejected(r.dir)
	r.n = len(list)
	return err
}

// add sets one event aside and returns when it is on the disk.
func (r *rejectStore) add(tenant uuid.UUID, record []byte, e Event, why error) error {
	line, err := json.Marshal(Rejected{tenant, e.ID, e.AgentID, e.Action, time.Now().UTC(), why.Error(), record})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(r.dir, rejectedName), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("set a refused event aside: %w", err)
	}
	if st, err := f.Stat(); err == nil && st.Size() >= r.limit {
		return errors.Join(
			fmt.Errorf(
				"the database refuses too many events: %s has %d bytes of them: see konstruct audit spool rejected",
				f.Name(), st.Size()), f.Close())
	}
	// The newline before ends what a crash may have cut short.
	_, err = fmt.Fprintf(f, "\n%s\n", line)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("set a refused event aside: %w", err)
	}
	r.n++
	return nil
}

// ReadRejected returns the events that were set aside in a spool's folder.
func ReadRejected(dir string) ([]Rejected, error) {
	being, err := readRejected(filepath.Join(dir, retryingName))
	if err != nil {
		return nil, err
	}
	rest, err := readRejected(filepath.Join(dir, rejectedName))
	seen := map[string]bool{}
	return slices.DeleteFunc(append(being, rest...), func(r Rejected) bool {
		// a delivery that was cut short refuses again
		again := seen[string(r.Record)]
		seen[string(r.Record)] = true
		return again
	}), err
}

func readRejected(path string) ([]Rejected, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Rejected
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var r Rejected
			if json.Unmarshal(line, &r) == nil { // one that was cut short was added again
				all = append(all, r)
			}
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// retryingName is the file of those that are being put back.
const retryingName = "retrying.jsonl"

// Retry puts the events that were set aside back into the spool, and returns how many. Those that are
// refused again come back. Killed meanwhile, some are put back twice, and are logged once by their ids.
func (s *Spool) Retry(ctx context.Context) (n int, err error) {
	retrying := filepath.Join(s.dir, retryingName)
	for turn := 0; ; turn++ { // what an earlier one left, then the others; not those that are refused meanwhile
		list, err := readRejected(retrying)
		if err != nil {
			return n, fmt.Errorf("audit: read the refused events: %w", err)
		}
		for _, r := range list {
			if err := s.files.Append(ctx, r.Record); err != nil {
				return n, fmt.Errorf("audit: %w", err)
			}
		}
		n += len(list)
		err = s.rejected.next(retrying, len(list), turn == 0)
		if errors.Is(err, os.ErrNotExist) || err == nil && turn == 1 {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("audit: %w", err)
		}
	}
}

// next drops the file that was put back, n events, and moves the others into its place if there are to be
// more; os.ErrNotExist says that there are none.
func (r *rejectStore) next(retrying string, n int, more bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n -= n
	if err := os.Remove(retrying); err != nil && !errors.Is(err, os.ErrNotExist) || !more {
		return err
	}
	return os.Rename(filepath.Join(r.dir, rejectedName), retrying)
}

// InspectSpool reads the spool in a folder, whether a process has it open or not, and changes nothing.
func InspectSpool(dir string) (SpoolStatus, error) {
	var st SpoolStatus
	f, err := spool.Inspect(dir, func(payload []byte) {
		if !st.Oldest.IsZero() {
			return
		}
		if _, e, err := readRecord(payload); err == nil {
			st.Oldest = e.At
		}
	})
	if err != nil {
		return st, fmt.Errorf("audit: %w", err)
	}
	list, err := ReadRejected(dir)
	if err != nil {
		return st, fmt.Errorf("audit: read the refused events: %w", err)
	}
	open, err := readGaps(filepath.Join(dir, gapsFile))
	if err != nil {
		return st, err
	}
	for _, list := range open {
		for _, one := range list {
			st.Gaps += one.Count
		}
	}
	st.Waiting, st.Bytes, st.Damaged, st.Rejected = f.Waiting, f.Bytes, f.Damaged, len(list)
	return st, nil
}
