package parse

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// outOfMemory is the message of a process that exceeded its memory limit.
const outOfMemory = "konstruct: reading takes more memory than it may"

// watchEvery is the interval at which a process checks its memory.
const watchEvery = 20 * time.Millisecond

// watch enforces the memory limit: the operating system's limit stops a single large allocation, and a periodic check
// stops everything else.
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
