package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

// Position is a place between two records: a segment's number and an offset in bytes.
type Position struct {
	segment uint64
	at      int64
}

// Record is one record as it was appended.
type Record struct {
	Payload []byte
	End     Position // the position after it
}

// cursorName is the file that holds the position up to which records are delivered. It is written without a sync. After
// a crash it may hold an older position; records are then delivered again, so delivery must be idempotent.
const cursorName = "cursor"

// Next returns the oldest records not returned yet, at most n of them, in the order in which they were appended. It
// waits until there is one. Only one goroutine may call it.
func (s *Spool) Next(ctx context.Context, n int) ([]Record, error) {
	idle := time.NewTicker(idleTime)
	defer idle.Stop()
	for {
		records, err := s.read(n)
		if err != nil || len(records) > 0 {
			return records, err
		}
		select {
		case <-s.more:
		case <-idle.C:
			s.retire(idleTime)
		case <-s.stop:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read returns up to n records without waiting; none when there are none.
func (s *Spool) read(n int) ([]Record, error) {
	for len(s.unread) == 0 {
		seg, from, ok := s.toRead()
		if !ok {
			return nil, nil
		}
		data, err := seg.read(from)
		if err != nil {
			return nil, fmt.Errorf("spool: read: %w", err)
		}
		holes := scan(data, seg.key, from, func(at int64, payload []byte) {
			s.unread = append(s.unread, Record{payload, Position{seg.number, at + int64(headerBytes+len(payload))}})
		})
		if len(holes) > 0 {
			if err := s.keepDamaged(seg, data, from, holes); err != nil {
				s.unread = nil // the whole range is read again
				return nil, err
			}
		}
		s.readTo = Position{seg.number, from + int64(len(data))}
	}
	n = min(n, len(s.unread))
	out := s.unread[:n:n]
	s.unread = s.unread[n:]
	return out, nil
}

// toRead returns a copy of the first segment with unread bytes, and the offset from which to read.
func (s *Spool) toRead() (seg segment, from int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		from = 0
		if f.number == s.readTo.segment {
			from = s.readTo.at
		}
		if f.number >= s.readTo.segment && f.size > from {
			return *f, from, true
		}
	}
	return seg, 0, false
}

// keepDamaged copies bytes that hold no valid record into the folder "damaged", for a person to examine.
func (s *Spool) keepDamaged(seg segment, data []byte, from int64, holes []damagedRange) error {
	dir := filepath.Join(s.dir, damagedName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("spool: keep damaged bytes: %w", err)
	}
	for _, h := range holes {
		path := filepath.Join(dir, fmt.Sprintf("%016x-%d", seg.number, h.at))
		if err := os.WriteFile(path, data[h.at-from:h.at-from+h.bytes], 0o600); err != nil {
			return fmt.Errorf("spool: keep damaged bytes: %w", err)
		}
	}
	n, err := damagedBytes(s.dir)
	if err != nil {
		return fmt.Errorf("spool: count damaged bytes: %w", err)
	}
	s.mu.Lock()
	s.damage = n
	s.mu.Unlock()
	return nil
}

// damagedBytes returns how many bytes the folder "damaged" holds.
func damagedBytes(dir string) (n int64, err error) {
	kept, err := os.ReadDir(filepath.Join(dir, damagedName))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	for _, e := range kept {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n, err
}

const damagedName = "damaged"

// Done records that the next n records, up to end, are delivered, and deletes the segments before end.
func (s *Spool) Done(end Position, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursor, s.last = end, time.Now()
	s.taken += uint64(n)
	if _, err := s.cursorF.WriteAt(end.encode(), 0); err != nil {
		return fmt.Errorf("spool: note what is delivered: %w", err)
	}
	for len(s.files) > 0 {
		f := s.files[0]
		active := len(s.files) == 1 && s.file != nil
		if active || f.number > end.segment || f.number == end.segment && end.at < f.size {
			return nil
		}
		if err := s.drop(); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes the oldest segment. The lock is held.
func (s *Spool) drop() error {
	if err := os.Remove(s.files[0].path); err != nil {
		return fmt.Errorf("spool: delete a delivered segment: %w", err)
	}
	s.total -= s.files[0].size
	s.files = s.files[1:]
	close(s.room)
	s.room = make(chan struct{})
	return nil
}

// retire deletes the active segment when all of it is delivered and nothing was appended or delivered for that long, so
// that delivered records do not stay on this disk.
func (s *Spool) retire(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) != 1 || s.writing || time.Since(s.last) < after {
		return
	}
	if f := s.files[0]; f.number != s.cursor.segment || s.cursor.at < f.size {
		return
	}
	if s.file != nil {
		_ = s.file.Close() // all of it is synced and delivered
		s.file = nil
	}
	_ = s.drop() // if it fails, the next Open finds the segment delivered
}

func (p Position) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, p.segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.at))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readCursor returns the stored position, or the beginning where the file is empty or damaged.
func readCursor(f *os.File) Position {
	var b [20]byte
	if n, _ := f.ReadAt(b[:], 0); n < len(b) ||
		binary.LittleEndian.Uint32(b[16:]) != crc32.Checksum(b[:16], castagnoli) {
		return Position{}
	}
	return Position{binary.LittleEndian.Uint64(b[:]), int64(binary.LittleEndian.Uint64(b[8:]))}
}
