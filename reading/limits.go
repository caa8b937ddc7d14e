package reading

import (
	"context"
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"time"
)

// memoryEnv tells a process how much memory it may take, in bytes.
const memoryEnv = "KONSTRUCT_READING_MEMORY"

// outOfMemory is the last word of a process that took too much.
const outOfMemory = "konstruct: reading takes more memory than it may"

// watchEvery is how often a process looks at its memory.
const watchEvery = 20 * time.Millisecond

// watch holds the process to its memory: the system's own limit stops what grows at a bound, and a look at it now and then whatever else does.
func watch(ctx context.Context) {
	limit, err := strconv.ParseUint(os.Getenv(memoryEnv), 10, 64)
	if err != nil || limit == 0 {
		return
	}
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
