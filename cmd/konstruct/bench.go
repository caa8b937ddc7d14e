package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/bench"
	"github.com/konstruct/konstruct/internal/devpg"
)

// benchmarks are what bench measures.
const benchmarks = "audit,growth,notary,questions,search,collections,ingest,serve,otlp,gateway,embed,all"

type benchCmd struct {
	What string `arg:"" enum:"${benchmarks}" help:"${benchmarkNames}; all is all but growth, collections."`

	Time   time.Duration `help:"How long each line is measured." default:"3s"`
	Events int64         `help:"growth, notary, questions: how many events the trail grows by." default:"1000000"`
	Chunks int           `help:"search, collections: how many passages all tenants have together." default:"300000"`

	Clients int    `help:"serve: how many clients ask at the same time." default:"64"`
	Memory  string `help:"search, collections: PostgreSQL's shared_buffers." default:"4GB"`
	Beside  string `help:"otlp: export to this service too: a Collector's OTLP over HTTP." placeholder:"URL"`
	Docs    int    `help:"ingest: how many documents the larger run ingests." default:"10000"`

	Plot string `help:"growth, search: write the curve against size here, as SVG." placeholder:"FILE"`
}

// Help is shown by --help.
func (benchCmd) Help() string {
	return "Runs on a private PostgreSQL of its own, which is thrown away: benchmarks write events, and events stay. " +
		"RATIO is the rate against the baseline's, measured in the same run. A million events take some 1.5 GB of " +
		"disk; three million passages take some 35 GB, and most of an hour."
}

// Run measures and prints one table.
func (c benchCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return coded{err, exitUsage}
	}
	lines := []bench.Measurement{}
	if c.What != "embed" {
		some, err := c.database(ctx, a)
		if err != nil {
			return err
		}
		lines = append(lines, some...)
	}
	if c.What == "embed" || c.What == "all" {
		m, err := embed.FindModel(a.AssetsDir)
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
	return printTable(a, lines, []string{"WHAT", "RATE", "P50 MS", "P99 MS", "RATIO", "BASELINE", "NOTE"},
		func(l bench.Measurement) []string {
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
			rate := ""
			if l.Rate > 0 {
				rate = fmt.Sprintf("%.0f %s/s", l.Rate, l.Unit)
			}
			return []string{l.What, rate, ms(l.P50), ms(l.P99), ratio, l.Baseline, l.Note}
		})
}

// check refuses to measure nothing.
func (c benchCmd) check() error {
	switch {
	case c.Time <= 0:
		return errors.New("--time: more than 0")
	case c.Events < 1:
		return errors.New("--events: at least 1")
	case c.Clients < 1:
		return errors.New("--clients: at least 1")
	case c.Docs < 1:
		return errors.New("--docs: at least 1")
	}
	return nil
}

func (c benchCmd) growth(ctx context.Context, a *app, b *bench.Bench) ([]bench.Measurement, error) {
	p := a.newProgress("growth: appending", "events", c.Events)
	lines, err := b.Growth(ctx, c.Events, func(done, total int64) { p.set(done, total, done) })
	p.done()
	if err == nil && c.Plot != "" {
		err = os.WriteFile(c.Plot, []byte(bench.Plot(lines)), 0o644)
	}
	return lines, err
}

// printMeasurement says a line once it is there: some runs take most of an hour.
func (a *app) printMeasurement(l bench.Measurement) {
	fmt.Fprintf(a.err, "%s: %.0f %s/s, p50 %.2f ms, p99 %.2f ms, ratio %.2f, %s\n", l.What, l.Rate, l.Unit, l.P50,
		l.P99, l.Ratio, l.Note)
}

// benchTenants is how many tenants share the table that is searched.
const benchTenants = 1000

// searchConfig is the configuration of a search benchmark with so many tenants, and what ends its progress bar.
func (c benchCmd) searchConfig(a *app, tenants int) (bench.SearchConfig, func()) {
	var p *progress
	last := ""
	done := func() {
		if p != nil {
			p.done()
		}
	}
	return bench.SearchConfig{Chunks: c.Chunks, Tenants: tenants, Progress: func(what string, n, total int) {
		if what != last {
			last = what
			done()
			p = a.newProgress(what, "done", int64(total))
		}
		p.set(int64(n), int64(total), int64(n))
	}, Measured: a.printMeasurement}, done
}

// collections measures one tenant that has all the passages.
func (c benchCmd) collections(ctx context.Context, a *app, b *bench.Bench) ([]bench.Measurement, error) {
	s, done := c.searchConfig(a, 1)
	defer done()
	s.OwnAlone = true
	return b.Collections(ctx, s)
}

func (c benchCmd) search(ctx context.Context, a *app, b *bench.Bench) ([]bench.Measurement, error) {
	if c.Chunks < benchTenants*10 {
		return nil, coded{fmt.Errorf("--chunks: at least %d", benchTenants*10), exitUsage}
	}
	s, done := c.searchConfig(a, benchTenants)
	lines, curve, err := b.Search(ctx, s)
	done()
	if err == nil && c.Plot != "" {
		err = os.WriteFile(c.Plot, []byte(bench.Curve(curve)), 0o644)
	}
	return lines, err
}

func (c benchCmd) database(ctx context.Context, a *app) (lines []bench.Measurement, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	in, err := devpg.Find(a.AssetsDir)
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
	var settings []string
	if c.What == "search" || c.What == "collections" {
		settings = []string{"shared_buffers=" + c.Memory, "max_wal_size=16GB"}
	}
	b, err := bench.Open(ctx, in, dir, c.Time, settings...)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	fmt.Fprintf(a.err, "measuring on %s, thrown away afterwards\n", in)
	for _, m := range []struct {
		name string
		run  func() ([]bench.Measurement, error)
	}{
		{"audit", func() ([]bench.Measurement, error) { return b.Audit(ctx) }},
		{"growth", func() ([]bench.Measurement, error) { return c.growth(ctx, a, b) }},
		{"notary", func() ([]bench.Measurement, error) {
			p := a.newProgress("notary: appending", "events", c.Events)
			defer p.done()
			return b.Notary(ctx, c.Events, func(done, total int64) { p.set(done, total, done) })
		}},
		{"questions", func() ([]bench.Measurement, error) {
			p := a.newProgress("questions: appending", "events", c.Events)
			defer p.done()
			return b.Questions(ctx, c.Events, func(done, total int64) { p.set(done, total, done) })
		}},
		{"search", func() ([]bench.Measurement, error) { return c.search(ctx, a, b) }},
		{"collections", func() ([]bench.Measurement, error) { return c.collections(ctx, a, b) }},
		{"serve", func() ([]bench.Measurement, error) {
			return b.Service(ctx,
				bench.ServiceConfig{Program: self, Parts: a.AssetsDir, Clients: c.Clients, Time: c.Time,
					Measured: a.printMeasurement})
		}},
		{"otlp", func() ([]bench.Measurement, error) {
			return b.OTLP(ctx, bench.ServiceConfig{Program: self, Parts: a.AssetsDir}, c.Beside)
		}},
		{"gateway", func() ([]bench.Measurement, error) {
			return b.Gateway(ctx, bench.ServiceConfig{Program: self, Parts: a.AssetsDir})
		}},
		{"ingest", func() ([]bench.Measurement, error) {
			m, err := embed.FindModel(a.AssetsDir)
			if err != nil {
				return nil, err
			}
			read, err := a.readCommand()
			if err != nil {
				return nil, err
			}
			return b.Ingest(ctx, m, read, c.Docs)
		}},
	} {
		if c.What != m.name && (c.What != "all" || m.name == "growth" || m.name == "collections") {
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
