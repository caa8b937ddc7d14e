package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/bench"
	"github.com/konstruct/konstruct/internal/devpg"
)

type benchCmd struct {
	What string        `arg:"" enum:"audit,verify,search,embed,all" help:"audit, verify, search, embed, or all."`
	Time time.Duration `help:"How long each line is measured." default:"3s"`
}

// Help is shown by --help.
func (benchCmd) Help() string {
	return "Runs on a private PostgreSQL of its own, which is thrown away: benchmarks write events, and events stay. RATIO is the rate against the baseline's, measured in the same run."
}

// Run measures and prints one table.
func (c benchCmd) Run(ctx context.Context, a *app) error {
	lines := []bench.Line{}
	if c.What != "embed" {
		some, err := c.database(ctx, a)
		if err != nil {
			return err
		}
		lines = append(lines, some...)
	}
	if c.What == "embed" || c.What == "all" {
		m, err := embed.FindModel(a.PartsDir)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.err, "measuring embed")
		some, err := bench.Embed(ctx, m, c.Time)
		if err != nil {
			return err
		}
		lines = append(lines, some...)
	}
	return printTable(a, lines, []string{"WHAT", "RATE", "P50 MS", "P99 MS", "RATIO", "BASELINE", "NOTE"}, func(l bench.Line) []string {
		ms := func(v float64) string {
			if v == 0 {
				return ""
			}
			return fmt.Sprintf("%.2f", v)
		}
		ratio := ""
		if l.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", l.Ratio)
		}
		return []string{l.What, fmt.Sprintf("%.0f %s/s", l.Rate, l.Unit), ms(l.P50), ms(l.P99), ratio, l.Baseline, l.Note}
	})
}

func (c benchCmd) database(ctx context.Context, a *app) (lines []bench.Line, err error) {
	in, err := devpg.Find(a.PartsDir)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "konstruct-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	b, err := bench.Open(ctx, in, dir, c.Time)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	fmt.Fprintf(a.err, "measuring on %s, thrown away afterwards\n", in)
	for _, m := range []struct {
		name string
		run  func() ([]bench.Line, error)
	}{
		{"audit", func() ([]bench.Line, error) { return b.Audit(ctx) }},
		{"verify", func() ([]bench.Line, error) { return b.Verify(ctx) }},
		{"search", func() ([]bench.Line, error) {
			p := a.newProgress("search: filling the table", "chunks", 0)
			defer p.done()
			return b.Search(ctx, func(done, total int) { p.set(int64(done), int64(total), int64(done)) })
		}},
	} {
		if c.What != m.name && c.What != "all" {
			continue
		}
		fmt.Fprintln(a.err, "measuring", m.name)
		some, err := m.run()
		if err != nil {
			return nil, err
		}
		lines = append(lines, some...)
	}
	return lines, nil
}
