package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func open(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func add(t *testing.T, s *Spool, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := s.Append(t.Context(), []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// next reads n records.
func next(t *testing.T, s *Spool, n int) (payloads []string, end Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(payloads) < n {
		records, err := s.Next(ctx, n-len(payloads))
		if err != nil {
			t.Fatalf("after %q: %v", payloads, err)
		}
		for _, r := range records {
			payloads, end = append(payloads, string(r.Payload)), r.End
		}
	}
	return payloads, end
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWhatWasNotDeliveredComesAgain(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	s := open(t, dir)
	add(t, s, "a", "b", "c")
	got, end := next(t, s, 2)
	if strings.Join(got, "") != "ab" {
		t.Fatalf("read %q", got)
	}
	if err := s.Done(end, 2); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Waiting != 1 || st.Segments != 1 {
		t.Errorf("status %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	seen := ""
	if st, err := Inspect(dir, func(p []byte) { seen += string(p) }); err != nil || st.Waiting != 1 || seen != "c" {
		t.Errorf("inspect finds %q, %+v, %v", seen, st, err)
	}
	s = open(t, dir)
	add(t, s, "d")
	if got, end = next(t, s, 2); strings.Join(got, "") != "cd" {
		t.Fatalf("read %q", got)
	}
	if err := s.Done(end, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("delivered records stay on the disk: %v", left)
	}
}

func TestALostCursorDeliversAgainAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	add(t, s, "a", "b")
	_, end := next(t, s, 1)
	if err := s.Done(end, 1); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(filepath.Join(dir, cursorName), []byte("not a cursor, thirty bytes long"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := next(t, open(t, dir), 2); strings.Join(got, "") != "ab" {
		t.Errorf("read %q", got)
	}
}

func TestATornTailIsCutAndDamageIsKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	add(t, s, "first", "second", "third")
	s.Close()
	path := files(t, dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := append(whole[:len(whole):len(whole)], whole[:headerBytes-3]...)
	torn[headerBytes+2] ^= 4 // within "first"
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	add(t, s, "fourth")
	got, end := next(t, s, 3)
	if fmt.Sprint(got) != "[second third fourth]" {
		t.Errorf("read %q", got)
	}
	if err := s.Done(end, 3); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Damaged != int64(headerBytes+len("first")) || st.Waiting != 0 {
		t.Errorf("status %+v", st)
	}
	s.Close()
	kept, err := os.ReadDir(filepath.Join(dir, damagedName))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if st := open(t, dir).Status(); st.Damaged != int64(headerBytes+len("first")) {
		t.Errorf("after a restart: %+v", st)
	}
}

// TestWhatAppendReportedAsFailedStaysAway leaves a record on the disk as a failed sync does, where truncation fails
// too.
func TestWhatAppendReportedAsFailedStaysAway(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	add(t, s, "taken")
	s.mu.Lock()
	seg, file := s.files[0], s.file
	left := appendFrame(nil, seg.key, seg.size, []byte("failed"))
	if _, err := file.WriteAt(left, seg.size); err != nil {
		t.Fatal(err)
	}
	readOnly, err := os.Open(seg.path)
	if err != nil {
		t.Fatal(err)
	}
	s.file = readOnly // neither writes nor truncates
	s.mu.Unlock()
	file.Close()
	if err := s.Append(t.Context(), []byte("failed")); err == nil || !strings.Contains(err.Error(), "may be kept") {
		t.Errorf("a failed write: %v", err)
	}
	add(t, s, "later")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := next(t, open(t, dir), 2); strings.Join(got, " ") != "taken later" {
		t.Errorf("read %q", got)
	}
}

func TestAFullSpoolWaitsAsLongAsItsCallerSays(t *testing.T) {
	s, err := Open(t.TempDir(), MinLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := make([]byte, MaxRecord)
	n := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := s.Append(ctx, big)
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "is full") {
				t.Fatalf("error %v", err)
			}
			break
		}
		if n++; n > 20 {
			t.Fatal("takes records without end")
		}
	}
	if st := s.Status(); st.Bytes > MinLimit {
		t.Errorf("%d bytes on disk, the limit is %d", st.Bytes, int64(MinLimit))
	}
	taken := make(chan error)
	go func() { taken <- s.Append(t.Context(), []byte("waits")) }()
	for delivered := 0; delivered < n; {
		records, err := s.Next(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Done(records[0].End, 1); err != nil {
			t.Fatal(err)
		}
		delivered++
	}
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	if got, _ := next(t, s, 1); got[0] != "waits" {
		t.Errorf("read %.20q: a record that was refused is there", got[0])
	}
}

func TestOneProcessAFolder(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(dir, 0); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
}

func TestManyAppendInTheirOwnOrder(t *testing.T) {
	s := open(t, t.TempDir())
	const writers, each = 32, 300
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if err := s.Append(t.Context(),
					fmt.Appendf(nil, "%d %d %s", w, i, strings.Repeat("x", 2000))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var at [writers]int
	for n := 0; n < writers*each; {
		records, err := s.Next(t.Context(), 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			var w, i int
			if _, err := fmt.Sscan(string(r.Payload), &w, &i); err != nil || at[w] != i {
				t.Fatalf("writer %d: record %d comes where %d should (%v)", w, i, at[w], err)
			}
			at[w]++
		}
		n += len(records)
		if err := s.Done(records[len(records)-1].End, len(records)); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	if st := s.Status(); st.Waiting != 0 || st.Segments > 1 {
		t.Errorf("status %+v", st)
	}
	s.Close()
	if err := s.Append(t.Context(), []byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestARecordHasItsLimits(t *testing.T) {
	s := open(t, t.TempDir())
	for _, n := range []int{0, MaxRecord + 1} {
		if err := s.Append(t.Context(), make([]byte, n)); err == nil || !strings.Contains(err.Error(), "it is 1 to") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := Open(t.TempDir(), 1); err == nil || !strings.Contains(err.Error(), "the least is") {
		t.Errorf("a limit of 1 byte: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	s, err := Open(b.TempDir(), 0)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	go func() {
		for {
			r, err := s.Next(context.Background(), 1000)
			if err != nil {
				return
			}
			_ = s.Done(r[len(r)-1].End, len(r))
		}
	}()
	payload := make([]byte, 400)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.Append(context.Background(), payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}
