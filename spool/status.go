package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Status describes a spool.
type Status struct {
	Segments     int   // files
	Bytes        int64 // in the segments
	Limit        int64 // of Bytes; 0 from Inspect, which does not know it
	Waiting      int   // records not delivered
	WaitingBytes int64 // of their payloads; only from Inspect
	Damaged      int64 // bytes in the folder "damaged", which held no valid record
}

// Status returns the spool's current status.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Segments: len(s.files), Bytes: s.total, Limit: s.limit, Waiting: int(s.appended - s.taken),
		Damaged: s.damage}
}

// Inspect reads the spool in a folder, whether or not another process has it open, and calls waiting with the payload
// of each record that is not delivered, oldest first. It changes nothing.
func Inspect(dir string, waiting func(payload []byte)) (st Status, err error) {
	files, err := segments(dir)
	if err != nil {
		return st, fmt.Errorf("spool: %w", err)
	}
	var cursor Position
	if f, err := os.Open(filepath.Join(dir, cursorName)); err == nil {
		cursor = readCursor(f)
		f.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return st, fmt.Errorf("spool: %w", err)
	}
	for _, s := range files {
		st.Segments++
		st.Bytes += s.size
		if s.number < cursor.segment {
			continue
		}
		n, size, err := s.waiting(cursor, waiting)
		if errors.Is(err, os.ErrNotExist) {
			continue // delivered meanwhile
		}
		if err != nil {
			return st, fmt.Errorf("spool: %w", err)
		}
		st.Waiting += n
		st.WaitingBytes += size
	}
	if st.Damaged, err = damagedBytes(dir); err != nil {
		return st, fmt.Errorf("spool: %w", err)
	}
	return st, nil
}
