package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/konstruct/konstruct/hook"
)

// hookCmd is konstruct-hook, for who has only this program; it starts more slowly.
type hookCmd struct {
	Arguments []string `arg:"" optional:"" passthrough:"" help:"What konstruct-hook takes: see konstruct-hook --help."`
}

// Help is shown by --help.
func (hookCmd) Help() string {
	return "A coding agent (Claude Code, Codex CLI, Gemini CLI) runs it before and after each tool: it records the " +
		"call, and the operator's rules allow it, deny it or ask a person (docs/hook.md). konstruct-hook is the " +
		"same, and starts in a few milliseconds.\n\nExamples:\n\n  konstruct hook settings claude-code --url " +
		"http://127.0.0.1:7117 --key-file hook.key\n  konstruct hook status\n  konstruct hook deliver"
}

// Run runs it.
func (h hookCmd) Run(ctx context.Context, a *app) error {
	if code := runHook(ctx, h.Arguments, a.out, a.err); code != 0 {
		os.Exit(code) // it has said why, and its codes are those of hooks
	}
	return nil
}

// isHook reports whether the command line is a hook's. Its input comes from an agent's program, for which exit code 2
// blocks a tool: so no setting of other commands is read before.
func isHook(args []string) bool {
	return len(args) > 0 && args[0] == "hook" && (len(args) < 2 || args[1] != "--help" && args[1] != "-h")
}

func runHook(ctx context.Context, args []string, out, errOut io.Writer) int {
	c := hook.Command{In: os.Stdin, Out: out, Err: errOut, Getenv: os.Getenv, Version: nextRelease}
	if self, err := os.Executable(); err == nil {
		c.Self = []string{self, "hook"}
		small := filepath.Join(filepath.Dir(self), "konstruct-hook")
		if st, err := os.Stat(small); err == nil && st.Mode().IsRegular() {
			c.Self = []string{small}
		}
	}
	return c.Run(ctx, args)
}
