package client

import (
	"bytes"
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

// DefaultSpoolLimit bounds the events that wait, in bytes.
const DefaultSpoolLimit = 256 << 20

// The spool's parts. Any number of processes write at once, each event or batch into a file of its own: a file appears
// whole, by a rename, so that no lock is needed and no killed process leaves half of one.
const (
	tmpDir      = "tmp"      // files that are being written
	newDir      = "new"      // a file of events, a JSON object a line, that the service does not have yet
	rejectedDir = "rejected" // events that the service refused for good, with its answer
	fullName    = "full"     // there while the events that wait exceed the limit
	lostName    = "lost"     // counts events that could not be kept
	lockName    = "deliver.lock"
	stateName   = "state.json"
	rulesName   = "rules.json"
	suffix      = ".jsonl"
	maxFile     = 8 << 20 // bytes of one file
	maxLines    = 1000    // events in one file
)

// ErrFull is returned if the spool's limit is reached or the disk is full. The event is counted as lost.
var ErrFull = errors.New("the spool is full: the event was not kept; it is counted, and the trail gets a capture_gap")

// spool is a folder of events that wait for the service.
type spool struct {
	dir   string
	limit int64
}

func openSpool(dir string, limit int64) (*spool, error) {
	if limit <= 0 {
		limit = DefaultSpoolLimit
	}
	s := &spool{dir, limit}
	if st, err := os.Stat(filepath.Join(dir, newDir)); err == nil && st.IsDir() {
		return s, nil
	}
	for _, sub := range []string{tmpDir, newDir, rejectedDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make the spool: %w", err)
		}
	}
	return s, s.reserveLost()
}

// put keeps lines, each one event, and returns when they are on the disk.
func (s *spool) put(lines [][]byte) error {
	if _, err := os.Lstat(filepath.Join(s.dir, fullName)); err == nil {
		return ErrFull
	}
	var files [][]byte
	var b bytes.Buffer
	for i, line := range lines {
		if len(line)+1 > maxFile {
			return errTooLarge
		}
		if b.Len()+len(line)+1 > maxFile || i > 0 && i%maxLines == 0 {
			files = append(files, bytes.Clone(b.Bytes()))
			b.Reset()
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	for _, content := range append(files, b.Bytes()) {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("name a file of the spool: %w", err)
		}
		if err := s.write(filepath.Join(newDir, id.String()+suffix), content); err != nil {
			return err
		}
	}
	return nil
}

// write makes a file appear whole, and syncs it and its folder: at the same time, so that a journaling file system
// commits once for both. A crash before that may leave the file empty; its events were not acknowledged.
func (s *spool) write(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "*")
	if err != nil {
		return fmt.Errorf("write to the spool: %w", err)
	}
	path := filepath.Join(s.dir, name)
	_, err = f.Write(content)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write to the spool: %w", errors.Join(err, f.Close()))
	}
	folder := make(chan error, 1)
	go func() { folder <- syncDir(filepath.Dir(path)) }()
	if err = errors.Join(f.Sync(), <-folder, f.Close()); err != nil {
		return fmt.Errorf("write to the spool: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// waiting lists the files that wait, oldest first.
func (s *spool) waiting() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, newDir))
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names) // by UUIDv7: by time
	return names, nil
}

// read returns the lines of a file that waits; none if it is gone.
func (s *spool) read(name string) ([][]byte, error) {
	path := filepath.Join(s.dir, newDir, name)
	if st, err := os.Stat(path); err == nil && st.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, the limit is %d", path, st.Size(), maxFile)
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	var lines [][]byte
	for line := range bytes.SplitSeq(raw, []byte("\n")) {
		if len(line) > 0 {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// done deletes a file whose events the service has.
func (s *spool) done(name string) error {
	err := os.Remove(filepath.Join(s.dir, newDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("clear the spool: %w", err)
	}
	return nil
}

// measure counts what waits, and says in a file whether it exceeds the limit.
func (s *spool) measure() (files int, size int64, oldest time.Time, err error) {
	names, err := s.waiting()
	if err != nil {
		return 0, 0, oldest, err
	}
	for _, name := range names {
		st, err := os.Stat(filepath.Join(s.dir, newDir, name))
		if err != nil {
			continue // delivered meanwhile
		}
		files++
		size += st.Size()
		if oldest.IsZero() {
			oldest = st.ModTime()
		}
	}
	full := filepath.Join(s.dir, fullName)
	if size <= s.limit {
		if err = os.Remove(full); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = os.WriteFile(full, nil, 0o600)
	}
	return files, size, oldest, err
}

// sweep removes what killed processes left half written an hour ago. Their events were never acknowledged.
func (s *spool) sweep() {
	entries, _ := os.ReadDir(filepath.Join(s.dir, tmpDir))
	for _, e := range entries {
		if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(s.dir, tmpDir, e.Name()))
		}
	}
}
