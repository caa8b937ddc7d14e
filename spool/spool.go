// Package spool keeps records on this machine's disk until they are delivered, in segment files with checksums. Callers
// that append at the same time share one fsync. Recovery returns every whole record and nothing else. The package knows
// no database and does not interpret records.
package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is returned for a record that was not taken because the spool is closed.
var ErrClosed = errors.New("spool: closed: the record was not taken")

// ErrInUse is returned when another process has the folder open.
var ErrInUse = errors.New("spool: another process has this folder open: give each process a folder of its own")

// Sizes and times of a spool.
const (
	// DefaultLimit is the default limit on a spool's segments, in bytes.
	DefaultLimit = 1 << 30
	// MinLimit is the smallest limit, in bytes: two segments, so that one can be delivered while the other fills.
	MinLimit = 2 * segmentBytes
	// segmentBytes is the size in bytes at which a new segment is begun.
	segmentBytes = 8 << 20
	// maxWaiting is how many appends may wait for a write; further callers wait for room in the queue.
	maxWaiting = 4096
	// MaxAppend is the limit on one Append in bytes, frame headers included.
	MaxAppend = MaxRecord + 1<<10
	// maxWrite is the size in bytes at which a write takes no further append.
	maxWrite = 1 << 20
	// idleTime is how long after the last append or delivery a fully delivered segment is deleted.
	idleTime = 10 * time.Second
)

// Spool is an open spool. Any number of callers append; one reads. It is safe for concurrent use.
type Spool struct {
	dir   string
	limit int64
	lock  *os.File
	queue chan *pending
	stop  chan struct{} // closed when no more records are taken
	quit  chan struct{} // closed when no caller can add to queue any more
	ended sync.WaitGroup
	puts  sync.RWMutex // callers hold it for reading while they add to queue

	mu       sync.Mutex
	files    []*segment // oldest first; the last is active while file is not nil
	file     *os.File   // of the active segment
	uncut    []*segment // whose files may hold records that Append reported as failed, beyond their size
	writing  bool
	next     uint64 // number of the next segment
	total    int64  // bytes in all segments
	closed   bool
	room     chan struct{} // closed and replaced when a segment is deleted
	more     chan struct{} // holds one token when there is something to read
	last     time.Time     // of the last append or delivery
	cursor   Position
	cursorF  *os.File
	unread   []Record // parsed, not yet returned by Next
	readTo   Position // the position up to which records were parsed
	damage   int64    // bytes in the folder "damaged", which held no valid record
	appended uint64   // records, including those found at Open
	taken    uint64   // delivered records

	full atomic.Bool // writers wait for a segment to be delivered
}

// pending is one caller's records that wait to be written. Who changes state from 0 first decides: the writer takes the
// records, or the caller abandons them.
type pending struct {
	payloads [][]byte
	size     int // of their frames, in bytes
	state    atomic.Int32
	done     chan error
}

const (
	claimedByWriter = 1
	abandoned       = 2
)

// Open opens the spool in dir for this process alone and creates dir if needed. limit bounds the segments in bytes; 0
// means DefaultLimit. It truncates a write that a crash cut short at the end of the last segment: that record was never
// acknowledged.
func Open(dir string, limit int64) (*Spool, error) {
	if limit == 0 {
		limit = DefaultLimit
	}
	if limit < MinLimit {
		return nil, fmt.Errorf("spool: a limit of %d bytes: the least is %d", limit, int64(MinLimit))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, limit: limit, lock: lock, queue: make(chan *pending, maxWaiting), stop: make(chan struct{}),
		quit: make(chan struct{}),
		room: make(chan struct{}), more: make(chan struct{}, 1), last: time.Now()}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("spool: %w", err), lock.Close())
	}
	s.ended.Go(s.write)
	return s, nil
}

// recover reads the segments and the cursor that an earlier process left.
func (s *Spool) recover() (err error) {
	if s.files, err = segments(s.dir); err != nil {
		return err
	}
	if s.cursorF, err = os.OpenFile(filepath.Join(s.dir, cursorName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	s.cursor = readCursor(s.cursorF)
	if n := len(s.files); n > 0 {
		if err := s.files[n-1].cutTorn(); err != nil {
			return err
		}
		s.next = s.files[n-1].number + 1
	}
	s.next = max(s.next, s.cursor.segment+1)
	for _, f := range s.files {
		s.total += f.size
	}
	for len(s.files) > 0 && s.files[0].number < s.cursor.segment { // delivered, and the deletion was cut short
		if err := s.drop(); err != nil {
			return err
		}
	}
	for _, f := range s.files {
		n, _, err := f.waiting(s.cursor, func([]byte) {})
		if err != nil {
			return err
		}
		s.appended += uint64(n)
	}
	if s.damage, err = damagedBytes(s.dir); err != nil {
		return err
	}
	s.readTo = s.cursor
	if len(s.files) > 0 {
		s.wake()
	}
	return nil
}

// cutTorn truncates a write at the segment's end that a crash cut short.
func (s *segment) cutTorn() error {
	data, err := s.read(0)
	if err != nil {
		return err
	}
	holes := scan(data, s.key, 0, func(int64, []byte) {})
	if len(holes) == 0 {
		return nil
	}
	end := holes[len(holes)-1]
	if end.at+end.bytes < s.size || !torn(data[end.at:], s.key, end.at) {
		return nil // damage: read keeps it and counts it
	}
	if err := os.Truncate(s.path, end.at); err != nil {
		return err
	}
	s.size = end.at
	return nil
}

// Append writes records of at most MaxAppend bytes together, and returns when they are on the disk. An error means
// that nothing was taken, unless its text says that the record may be kept. A crash before Append returns may leave
// the first of the records.
func (s *Spool) Append(ctx context.Context, payloads ...[]byte) error {
	size := 0
	for _, p := range payloads {
		if len(p) == 0 || len(p) > MaxRecord {
			return fmt.Errorf("spool: a record of %d bytes: it is 1 to %d", len(p), MaxRecord)
		}
		size += headerBytes + len(p)
	}
	if size > MaxAppend {
		return fmt.Errorf("spool: %d bytes of records at once: the limit is %d", size, MaxAppend)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("spool: the record was not taken: %w", err)
	}
	p := &pending{payloads: payloads, size: size, done: make(chan error, 1)}
	if err := s.enqueue(ctx, p); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		if p.state.CompareAndSwap(0, abandoned) {
			return s.noRoom(ctx)
		}
		select {
		case err := <-p.done:
			return err
		default:
			return fmt.Errorf("spool: the record is being written and may or may not be kept: %w", ctx.Err())
		}
	}
}

func (s *Spool) enqueue(ctx context.Context, p *pending) error {
	s.puts.RLock()
	defer s.puts.RUnlock()
	select {
	case <-s.stop:
		return ErrClosed
	default:
	}
	select {
	case s.queue <- p:
		return nil
	case <-s.stop:
		return ErrClosed
	case <-ctx.Done():
		return s.noRoom(ctx)
	}
}

func (s *Spool) noRoom(ctx context.Context) error {
	if s.full.Load() {
		return fmt.Errorf(
			"spool: %s is full (limit %d bytes) and nothing was delivered in time: the record was not taken: %w", s.dir,
			s.limit, ctx.Err())
	}
	return fmt.Errorf("spool: the disk did not take the record in time: %w", ctx.Err())
}

// Close stops taking records, writes those already taken, and closes the files. Records not delivered wait for the next
// Open.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.puts.Lock()
	close(s.quit)
	s.puts.Unlock()
	s.ended.Wait()
	s.retire(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.cutAgain()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return errors.Join(err, s.cursorF.Close(), s.lock.Close())
}

// wake wakes the reader.
func (s *Spool) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}
