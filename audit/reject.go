package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/spool"
)

// rejectedName is the file of events that the database refused after they were acknowledged: one JSON object a line.
const rejectedName = "rejected.jsonl"

// Rejected is an event that the database refused. It stays in the spool's folder until Retry.
type Rejected struct {
	Tenant uuid.UUID `json:"tenant_id"`
	Event  uuid.UUID `json:"event_id"`
	Agent  uuid.UUID `json:"agent_id"`
	Action string    `json:"action_type"`
	At     time.Time `json:"rejected_at"`
	Reason string    `json:"reason"`
	Record []byte    `json:"record"` // the event in the spool's encoding
}

// maxRejected is the limit on refused events in bytes. Beyond it, delivery stops, the spool fills and callers wait: a
// person must act.
const maxRejected = 256 << 20

// rejectStore is the file of refused events.
type rejectStore struct {
	dir   string
	limit int64
	seed  maphash.Seed
	mu    sync.Mutex
	kept  map[uint64]bool // hashes of the records: an event that is refused again counts once
}

func (r *rejectStore) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)
}

// count counts the refused events in the files. Once the store is shared, the lock is held.
func (r *rejectStore) count() error {
	list, err := ReadRejected(r.dir)
	r.kept = map[uint64]bool{}
	for _, e := range list {
		r.kept[maphash.Bytes(r.seed, e.Record)] = true
	}
	return err
}

// add appends a refused event to the file, and returns when it is on the disk.
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
	// The leading newline ends a line that a crash may have cut short.
	_, err = fmt.Fprintf(f, "\n%s\n", line)
	if err = errors.Join(err, f.Sync(), f.Close(), blob.SyncDir(r.dir)); err != nil {
		return fmt.Errorf("set a refused event aside: %w", err)
	}
	r.kept[maphash.Bytes(r.seed, record)] = true
	return nil
}

// ReadRejected returns the refused events in a spool's folder.
func ReadRejected(dir string) ([]Rejected, error) {
	retrying, err := readRejected(filepath.Join(dir, retryingName))
	if err != nil {
		return nil, err
	}
	rest, err := readRejected(filepath.Join(dir, rejectedName))
	seen := map[string]bool{}
	return slices.DeleteFunc(append(retrying, rest...), func(r Rejected) bool {
		// an interrupted delivery is repeated, and its events are refused again
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
			if json.Unmarshal(line, &r) == nil { // a line that a crash cut short was appended again
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

// retryingName is the file of refused events that Retry is putting back.
const retryingName = "retrying.jsonl"

// Retry puts refused events back into the spool and returns how many. Events that are refused again are kept again. If
// the process is killed meanwhile, some are put back twice; their ids make sure that they are logged once.
func (s *Spool) Retry(ctx context.Context) (n int, err error) {
	retrying := filepath.Join(s.dir, retryingName)
	for pass := 0; ; pass++ { // first what an earlier Retry left, then the others, but not those refused meanwhile
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
		err = s.rejected.next(retrying, pass == 0)
		if errors.Is(err, os.ErrNotExist) || err == nil && pass == 1 {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("audit: %w", err)
		}
	}
}

// next deletes the file of the events that were put back. If more is true, it then renames the file of the other
// refused events to it; os.ErrNotExist means that there are none.
func (r *rejectStore) next(retrying string, more bool) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { err = errors.Join(err, r.count()) }()
	if err := os.Remove(retrying); err != nil && !errors.Is(err, os.ErrNotExist) || !more {
		return err
	}
	return os.Rename(filepath.Join(r.dir, rejectedName), retrying)
}

// InspectSpool reads the spool in a folder, whether or not a process has it open. It changes nothing.
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
