package notary_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/notary"
)

// realBucket is an object in a bucket of a real server.
func realBucket(t *testing.T) *notary.BucketAnchor {
	t.Helper()
	b, err := notary.OpenBucketAnchor(testkit.Bucket(t, "notary/checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTheAnchorIsSwappedByWhoHasSeenIt tests compare-and-swap for a file and a bucket.
func TestTheAnchorIsSwappedByWhoHasSeenIt(t *testing.T) {
	for name, outside := range map[string]notary.Anchor{
		"file": notary.FileAnchor(filepath.Join(t.TempDir(), "deep", "checkpoint")), "bucket": realBucket(t)} {
		t.Run(name, func(t *testing.T) {
			note, version, err := outside.Load(t.Context())
			if note != "" || version != "" || err != nil {
				t.Fatalf("an empty place: %q, %q, %v", note, version, err)
			}
			first, err := outside.Swap(t.Context(), "", "one\n")
			if err != nil {
				t.Fatal(err)
			}
			for _, wrong := range []string{"", "nonsense"} {
				if _, err := outside.Swap(t.Context(), wrong, "two\n"); !errors.Is(err, notary.ErrChanged) {
					t.Errorf("version %q: %v", wrong, err)
				}
			}
			if note, version, err := outside.Load(t.Context()); note != "one\n" || version != first || err != nil {
				t.Errorf("%q, %q, %v", note, version, err)
			}
			// Many swap the same version: one of them wins, and the anchor holds what it wrote.
			at := first
			for turn := range 5 {
				var won atomic.Int32
				var mu sync.Mutex
				var next, wrote string
				var all sync.WaitGroup
				for i := range 8 {
					all.Go(func() {
						text := fmt.Sprintf("turn %d of %d\n", turn, i)
						v, err := outside.Swap(context.WithoutCancel(t.Context()), at, text)
						if err != nil {
							return
						}
						won.Add(1)
						mu.Lock()
						next, wrote = v, text
						mu.Unlock()
					})
				}
				all.Wait()
				if note, _, err := outside.Load(t.Context()); won.Load() != 1 || note != wrote || err != nil {
					t.Fatalf("%d won; %q stands there, %q was written last, %v", won.Load(), note, wrote, err)
				}
				at = next
			}
		})
	}
	for _, wrong := range []string{"s3://", "s3://bucket", "http://x/y", "s3://b/o?endpoint=ftp://h"} {
		if _, err := notary.OpenBucketAnchor(wrong); err == nil {
			t.Errorf("%q is opened", wrong)
		}
	}
}

func TestANotaryKeepsItsCheckpointInABucket(t *testing.T) {
	o := trailkit.Open(t)
	o.Config.Anchor = realBucket(t)
	for range 3 {
		o.Log(trailkit.TenantA, 10)
		o.Round()
	}
	if r := o.MustHold(); !strings.HasPrefix(r.Anchor, "agrees at size") {
		t.Errorf("%+v", r)
	}
}
