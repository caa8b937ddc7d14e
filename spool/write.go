package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/konstruct/konstruct/plural"
)

// write takes the appends that wait, writes them with one sync, and answers their callers, until the spool is closed.
func (s *Spool) write() {
	var batch []*pending
	var buf []byte
	for {
		var first *pending
		select {
		case first = <-s.queue:
		case <-s.quit:
			select {
			case first = <-s.queue:
			default:
				return
			}
		}
		batch = batch[:0]
		size := 0
		for p := first; p != nil; {
			// An abandoned append is skipped: its caller already has an error that says nothing was taken.
			if s.waitForRoom(p) && p.state.CompareAndSwap(0, claimedByWriter) {
				batch = append(batch, p)
				size += p.size
			}
			p = nil
			if size < maxWrite {
				select {
				case p = <-s.queue:
				default:
				}
			}
		}
		if len(batch) == 0 {
			continue
		}
		var err error
		buf, err = s.put(buf[:0], batch)
		for _, p := range batch {
			p.done <- err
		}
		if cap(buf) > 4*maxWrite {
			buf = nil
		}
	}
}

// waitForRoom blocks while the spool is full. It returns false when the append is abandoned or the spool is closed.
func (s *Spool) waitForRoom(p *pending) bool {
	for {
		s.mu.Lock()
		room, fits := s.room, s.total+int64(p.size)+maxWrite <= s.limit
		s.mu.Unlock()
		if fits {
			s.full.Store(false)
			return true
		}
		s.full.Store(true)
		select {
		case <-room:
		case <-s.stop:
			if p.state.CompareAndSwap(0, abandoned) {
				p.done <- ErrClosed
			}
			return false
		}
		if p.state.Load() != 0 {
			return false
		}
	}
}

// put writes and syncs a batch. After an error the next batch begins a new segment: what a failed sync left on the disk
// is unknown.
func (s *Spool) put(buf []byte, batch []*pending) ([]byte, error) {
	seg, f, at, err := s.active()
	if err != nil {
		return buf, fmt.Errorf("spool: begin a segment: %w", err)
	}
	records := 0
	for _, p := range batch {
		for _, payload := range p.payloads {
			buf = appendFrame(buf, seg.key, at+int64(len(buf)), payload)
		}
		records += len(p.payloads)
	}
	_, err = f.WriteAt(buf, at)
	if err == nil {
		err = syncData(f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	if err != nil {
		s.file = nil
		return buf, s.takeBack(seg, f, fmt.Errorf("spool: write %s: %w", plural.Of(records, "record", "records"), err))
	}
	seg.size += int64(len(buf))
	s.total += int64(len(buf))
	s.appended += uint64(records)
	s.last = time.Now()
	if seg.size >= segmentBytes {
		_ = f.Close() // all of it is synced
		s.file = nil
	}
	s.wake()
	return buf, nil
}

// takeBack removes what a failed write may have left in the active segment, which the next Open would take for records,
// and closes it. The lock is held.
func (s *Spool) takeBack(seg *segment, f *os.File, failed error) error {
	cut := f.Truncate(seg.size)
	if cut == nil {
		cut = f.Sync()
	}
	closed := f.Close()
	if seg.size == 0 && os.Remove(seg.path) == nil {
		s.files = s.files[:len(s.files)-1]
		return errors.Join(failed, closed)
	}
	if cut != nil {
		s.uncut = append(s.uncut, seg)
		cut = fmt.Errorf("spool: the records may be kept after a restart: they can't be removed from the disk now: %w",
			cut)
	}
	return errors.Join(failed, cut, closed)
}

// cutAgain tries again what takeBack could not do. The lock is held.
func (s *Spool) cutAgain() error {
	var failed error
	s.uncut = slices.DeleteFunc(s.uncut, func(seg *segment) bool {
		err := truncate(seg.path, seg.size)
		if errors.Is(err, os.ErrNotExist) { // delivered and deleted
			err = nil
		}
		failed = errors.Join(failed, err)
		return err == nil
	})
	if failed != nil {
		return fmt.Errorf("spool: remove what failed writes left: %w", failed)
	}
	return nil
}

func truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// active returns the active segment, its file and the offset to write at. It begins a new segment when none is active.
func (s *Spool) active() (seg *segment, f *os.File, at int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.cutAgain() // the append that failed has said so; Close says it again
	if s.file == nil {
		seg, f, err := newSegment(s.dir, s.next)
		if err != nil {
			return nil, nil, 0, err
		}
		s.next++
		s.files, s.file = append(s.files, seg), f
	}
	s.writing = true
	seg = s.files[len(s.files)-1]
	return seg, s.file, seg.size, nil
}
