package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// tableTime is how tables print times, which are in UTC.
const tableTime = "2006-01-02 15:04:05Z"

// printTable prints lines for people, or as JSON.
func printTable[T any](a *app, lines []T, head []string, cells func(T) []string) error {
	if a.JSON {
		return a.json(lines)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, l := range lines {
		row := cells(l)
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return w.Flush()
}

// json prints v; a nil slice is an empty list.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// result prints what a command did: v where JSON is asked for, otherwise a line of text, if there is one.
func (a *app) result(v any, format string, args ...any) error {
	if a.JSON {
		return a.json(v)
	}
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}

// printable keeps a name or a text of a stranger from steering the terminal or breaking a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '␦'
		}
		return r
	}, s)
}

// oneLine is a text's beginning for a table.
func oneLine(s string, width int) string {
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// The few colours, only on a terminal that wants them.
func (a *app) color(code, s string) string {
	if !isTerminal(a.out) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (a *app) bold(s string) string  { return a.color("1", s) }
func (a *app) dim(s string) string   { return a.color("2", s) }
func (a *app) green(s string) string { return a.color("32", s) }
func (a *app) red(s string) string   { return a.color("31", s) }

// progress is a bar on a terminal, and a line every ten seconds elsewhere.
type progress struct {
	a      *app
	bars   *mpb.Progress
	bar    *mpb.Bar
	name   string
	unit   string
	n      int64
	begun  time.Time
	spoken time.Time
}

// newProgress begins; total may be 0 when it is not known yet.
func (a *app) newProgress(name, unit string, total int64) *progress {
	p := &progress{a: a, name: name, unit: unit, begun: time.Now(), spoken: time.Now()}
	if isTerminal(a.err) && !a.JSON {
		p.bars = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(40))
		p.bar = p.bars.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(name+" "), decor.CountersNoUnit("%d / %d")),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
				return p.rate()
			}), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)))
	}
	return p
}

func (p *progress) rate() string {
	return fmt.Sprintf("%.0f %s/s", float64(p.n)/max(0.001, time.Since(p.begun).Seconds()), p.unit)
}

// set says how much is done, of how much; counted is what the rate counts.
func (p *progress) set(done, total, counted int64) {
	p.n = counted
	if p.bar != nil {
		p.bar.SetTotal(total, false)
		p.bar.SetCurrent(done)
		return
	}
	if time.Since(p.spoken) > 10*time.Second {
		p.spoken = time.Now()
		fmt.Fprintf(p.a.err, "%s %d of %d, %s\n", p.name, done, total, p.rate())
	}
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}
