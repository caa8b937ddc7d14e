package parse

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// outOfMemory is the last word of a process that took too much.
const outOfMemory = "konstruct: reading takes more memory than it may"

// watchEvery is how often a process looks at its memory.
const watchEvery = 20 * time.Millisecond

// watch holds the process to its memory: the system's own limit stops what grows at a bound, and a look at it now and
// then whatever else does.
func watch(ctx context.Context, limit uint64) {
	debug.SetMemoryLimit(int64(limit / 4 * 3)) // rather collect than grow
	limitData(limit)
	go func() {
		s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		for t := time.NewTicker(watchEvery); ctx.Err() == nil; <-t.C {
			metrics.Read(s)
			if s[0].Value.Uint64()-s[1].Value.Uint64() > limit {
				fmt.Fprintln(os.Stderr, outOfMemory)
				os.Exit(2)
			}
		}
	}()
}
