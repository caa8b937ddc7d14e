package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Status is what a spool holds.
type Status struct {
	Segments     int   // files
	Bytes        int64 // in them
	Limit        int64 // of Bytes; 0 where it is not known, from Inspect
	Waiting      int   // records that are not delivered
	WaitingBytes int64 // in their payloads; from Inspect alone
	Damaged      int64 // bytes set aside because they held no whole record
}

// Status returns what this spool holds now.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Segments: len(s.files), Bytes: s.total, Limit: s.limit, Waiting: int(s.appended - s.taken),
		Damaged: s.damage}
}

// Inspect reads the spool in a folder, open in another process or not, and calls waiting with each record
// that is not delivered, oldest first. It changes nothing.
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
	kept, err := os.ReadDir(filepath.Join(dir, damagedName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return st, fmt.Errorf("spool: %w", err)
	}
	for _, e := range kept {
		if info, err := e.Info(); err == nil {
			st.Damaged += info.Size()
		}
	}
	return st, nil
}
