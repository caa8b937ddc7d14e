package spool

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// segment is one file of records. Its file name is its number and its key, both in hexadecimal.
type segment struct {
	number uint64
	key    key
	path   string
	size   int64 // synced bytes
}

const suffix = ".seg"

// newSegment creates an empty segment file and syncs the folder, so that the file survives a crash.
func newSegment(dir string, number uint64) (*segment, *os.File, error) {
	s := &segment{number: number}
	if _, err := rand.Read(s.key[:]); err != nil {
		return nil, nil, err
	}
	s.path = filepath.Join(dir, fmt.Sprintf("%016x-%x%s", number, s.key, suffix))
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, nil, errors.Join(err, f.Close(), os.Remove(s.path))
	}
	return s, f, nil
}

// segments lists a folder's segments, oldest first.
func segments(dir string) ([]*segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []*segment
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		s := &segment{path: filepath.Join(dir, e.Name())}
		number, rest, _ := strings.Cut(name, "-")
		if s.number, err = strconv.ParseUint(number, 16, 64); err != nil {
			continue
		}
		if n, err := hex.Decode(s.key[:], []byte(rest[:min(len(rest), 2*len(s.key))])); err != nil || n != len(s.key) {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // the process that has the spool open delivered and deleted it meanwhile
		}
		if err != nil {
			return nil, err
		}
		s.size = st.Size()
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return all, nil
}

// read returns the segment's bytes from offset at to its size.
func (s *segment) read(at int64) ([]byte, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, max(0, s.size-at))
	n, err := f.ReadAt(data, at)
	if n < len(data) {
		return nil, fmt.Errorf("%s: %d bytes at %d: %w", s.path, len(data), at, err)
	}
	return data, nil
}

// waiting calls each with the segment's records after a position, and returns their number and their size in bytes.
func (s *segment) waiting(behind Position, each func(payload []byte)) (n int, size int64, err error) {
	from := int64(0)
	if s.number == behind.segment {
		from = min(behind.at, s.size)
	}
	data, err := s.read(from)
	if err != nil {
		return 0, 0, err
	}
	scan(data, s.key, from, func(_ int64, payload []byte) {
		n++
		size += int64(len(payload))
		each(payload)
	})
	return n, size, nil
}

// syncDir syncs a folder, so that files created in it or renamed into it survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
