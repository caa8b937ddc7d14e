// Command konstruct-hook is what coding agents run as their hook: `konstruct hook`, without what makes the large
// program start slowly. A cold call takes a few milliseconds.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/konstruct/konstruct/hook"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := context.Background(), func() {}
	if len(os.Args) > 1 && os.Args[1] == "flush" { // a hook starts sooner without a handler of signals
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	}
	defer stop()
	c := hook.Command{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: "devel"}
	if self, err := os.Executable(); err == nil {
		c.Self = []string{self}
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		c.Version = info.Main.Version
	}
	return c.Run(ctx, os.Args[1:])
}
