package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/strictjson"
)

// TestBodiesTakeNoMoreThanTheyMay: together, and one tenant's, while another tenant and small bodies find room; who
// waits gets what is given back, and nobody waits for ever.
func TestBodiesTakeNoMoreThanTheyMay(t *testing.T) {
	const total = 256 << 20
	b := newMemoryBudget(total)
	noisy, other := uuid.New(), uuid.New()
	now, cancel := context.WithCancel(t.Context())
	cancel() // who would wait is told at once
	var problem *Problem
	first, err := b.reserve(now, noisy, 90<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.reserve(now, noisy, 90<<20); !errors.As(err, &problem) ||
		problem.Status != http.StatusTooManyRequests || problem.GetHeaders().Get("Retry-After") == "" {
		t.Errorf("more than a tenant's share: %v", err)
	}
	second, err := b.reserve(now, other, 90<<20)
	if err != nil {
		t.Errorf("another tenant: %v", err)
	}
	if _, err := b.reserve(now, uuid.New(), 90<<20); !errors.As(err, &problem) ||
		problem.Status != http.StatusServiceUnavailable || problem.GetHeaders().Get("Retry-After") == "" {
		t.Errorf("more than all may: %v", err)
	}
	small, err := b.reserve(now, noisy, 1<<20)
	if err != nil {
		t.Errorf("a small body beside large ones: %v", err)
	}
	if got := b.inUse(); got != 181<<20 {
		t.Errorf("%d are in use", got)
	}
	got := make(chan func())
	go func() {
		release, err := b.reserve(t.Context(), noisy, 90<<20)
		if err != nil {
			t.Error(err)
		}
		got <- release
	}()
	first()
	first() // twice is once
	release := <-got
	release()
	second()
	small()
	if got := b.inUse(); got != 0 {
		t.Errorf("%d are in use when all is given back", got)
	}
	whole, err := b.reserve(now, noisy, 10*total) // what is more than all is let in alone
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.reserve(now, other, 3<<20); err == nil {
		t.Error("something beside what takes all")
	}
	whole()

	var group sync.WaitGroup
	var held, most atomic.Int64
	for i := range 200 {
		group.Go(func() {
			release, err := b.reserve(t.Context(), uuid.UUID{byte(i % 5)}, 20<<20)
			if err != nil {
				return
			}
			for n := held.Add(20 << 20); ; {
				if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
					break
				}
			}
			held.Add(-20 << 20)
			release()
		})
	}
	group.Wait()
	if most.Load() > total || b.inUse() != 0 {
		t.Errorf("%d at most, %d left", most.Load(), b.inUse())
	}
}

// live is how much memory what f returns takes, and what it was made of.
func live(t *testing.T, f func() any) int64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	held := f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(held)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// TestABodyTakesNoMoreMemoryThanIsReservedForIt once it is read, of whatever it is made.
func TestABodyTakesNoMoreMemoryThanIsReservedForIt(t *testing.T) {
	s := &Server{}
	reserved := func(path string, n int) int64 {
		r := httptest.NewRequest("POST", path, nil)
		r.ContentLength = int64(n)
		return s.bodyMemory(r)
	}
	repeat := func(begin, one, end string, n int) []byte {
		return []byte(begin + strings.Repeat(one+",", max(0, (n-len(begin)-len(end))/(len(one)+1))) + one + end)
	}
	for name, body := range map[string][]byte{
		"numbers": repeat(`{"metadata":{"a":[`, `0`, `]}}`, maxJSON-8), "objects": repeat(`{"metadata":{"a":[`,
			`{}`, `]}}`, maxJSON-8), "objects with a name": repeat(`{"metadata":{"a":[`, `{"":0}`, `]}}`,
			maxJSON-8), "lists": repeat(`{"metadata":{"a":[`, `[]`, `]}}`, maxJSON-8),
		"lists in lists": repeat(`{"metadata":{"a":[`, `[[0]]`, `]}}`, maxJSON-8),
		"text":           []byte(`{"input_summary":"` + strings.Repeat("x", maxJSON-100) + `"}`),
		"escapes":        []byte(`{"input_summary":"` + strings.Repeat(`\u20ac`, maxJSON/6-100) + `"}`),
	} {
		took := live(t, func() any {
			var parsed any
			var event CreateEventRequest
			if err := strictjson.Decode(body, &parsed); err != nil {
				t.Fatal(err)
			}
			_ = json.Unmarshal(body, &event)
			return []any{parsed, event, bytes.Clone(body)}
		})
		if most := reserved("/v1/events", len(body)); took > most {
			t.Errorf("%s: %d bytes take %d, %d are reserved", name, len(body), took, most)
		}
	}
	for name, body := range map[string][]byte{
		"many short events": repeat(`{"events":[`, `{"action_type":"x"}`, `]}`, 10_000*20),
		"long events": repeat(`{"events":[`, `{"action_type":"x","input_summary":"`+strings.Repeat("x",
			60<<10)+`"}`, `]}`, 8<<20), "one event": repeat(`{"events":[`,
			`{"action_type":"x","input_summary":"`+strings.Repeat("x", 8<<20)+`"}`, `]}`, 8<<20),
		"metadata": repeat(`{"events":[`, `{"action_type":"x","metadata":{"a":"`+strings.Repeat("x", 1000)+`"}}`,
			`]}`, 8<<20),
	} {
		took := live(t, func() any {
			b, err := readBatch(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			events := make([]audit.Event, len(b.Events))
			for i := range b.Events {
				if events[i], err = b.Events[i].event(t.Context(), access.Principal{}, i, "x"); err != nil {
					t.Fatal(err)
				}
			}
			return []any{b, events}
		})
		if most := reserved(batchPath, len(body)); took > most {
			t.Errorf("%s: %d bytes take %d, %d are reserved", name, len(body), took, most)
		}
		t.Logf("%s: %.1f bytes a byte", name, float64(took)/float64(len(body)))
	}
}
