package konstruct_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/devpg"
)

// rewrite puts what the program printed in the place of what a page says that it prints.
var rewrite = flag.Bool("rewrite", false, "rewrite the answers in README.md and docs that are not what was printed")

// TestDocumentedSessions runs every command behind a "$ " of README.md and docs as it stands: in the order of the text,
// each page by one bash, all in one folder, and while the service runs as `make run` leaves it. What is printed must be
// what the page says.
func TestDocumentedSessions(t *testing.T) {
	dir := t.TempDir()
	// PostgreSQL runs as another user when we are root, and must pass through.
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin", "konstruct"),
		"./cmd/konstruct").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	serveAsMakeRun(t, dir)

	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, page := range append([]string{"README.md"}, pages...) {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(raw), "\n")
		steps := sessionsOf(lines)
		if len(steps) == 0 {
			continue
		}
		commands += len(steps)
		t.Run(filepath.Base(page), func(t *testing.T) { runSession(t, dir, page, lines, steps) })
	}
	if commands < 50 {
		t.Errorf("only %d commands were found", commands)
	}
}

// environment is a reader's: nothing of Konstruct is configured.
func environment() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KONSTRUCT_") {
			env = append(env, v)
		}
	}
	return append(env, "LC_ALL=C.UTF-8", "KONSTRUCT_ASSETS_DIR="+devpg.AssetsDir())
}

// serveAsMakeRun starts what the Makefile's target run ends with, in a folder, on any port.
func serveAsMakeRun(t *testing.T, dir string) {
	t.Helper()
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile(`(?m)^run:.*\n\t@(bin/konstruct serve .*)$`).FindSubmatch(makefile)
	if recipe == nil {
		t.Fatal("make run does not end by serving")
	}
	args := strings.Fields(string(recipe[1]))
	serve := exec.Command(filepath.Join(dir, args[0]), args[1:]...)
	serve.Dir = dir
	serve.Env = append(environment(), "KONSTRUCT_LISTEN=127.0.0.1:0", "KONSTRUCT_METRICS_LISTEN=off")
	serve.Stdout = io.Discard
	log, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		if err := serve.Wait(); err != nil {
			t.Errorf("the service ended with: %v", err)
		}
	})
	serves, printed := make(chan bool, 1), &bytes.Buffer{}
	go func() {
		for s := bufio.NewScanner(log); s.Scan(); {
			if fmt.Fprintln(printed, s.Text()); strings.Contains(s.Text(), "serving at") {
				serves <- true
				break
			}
		}
		close(serves)
		_, _ = io.Copy(io.Discard, log)
	}()
	if !<-serves {
		t.Fatalf("it does not serve: %s", printed)
	}
}

// step is one command of a page, and what the page says that it prints.
type step struct {
	command    string
	line       int // of the command, from 1
	begin, end int // its answer's lines, from 0
}

// sessionsOf finds the commands of a page: in a block whose first line begins with "$ ", every line that does, with
// those that follow a backslash or belong to a here-document.
func sessionsOf(lines []string) (steps []step) {
	hereDocument := regexp.MustCompile(`<<'?([A-Z]+)'?`)
	fenced, session := false, false
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "```") {
			fenced = !fenced
			session = fenced && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "$ ")
			continue
		}
		command, is := strings.CutPrefix(lines[i], "$ ")
		if !session || !is {
			continue
		}
		s := step{line: i + 1}
		for strings.HasSuffix(command, "\\") && i+1 < len(lines) {
			i++
			command += "\n" + lines[i]
		}
		if m := hereDocument.FindStringSubmatch(command); m != nil {
			for i+1 < len(lines) {
				i++
				command += "\n" + lines[i]
				if lines[i] == m[1] {
					break
				}
			}
		}
		s.command, s.begin, s.end = command, i+1, i+1
		for j := i + 1; j < len(lines); j++ {
			if strings.HasPrefix(lines[j], "$ ") || strings.HasPrefix(lines[j], "```") {
				break
			}
			if lines[j] != "" {
				s.end = j + 1
			}
		}
		steps = append(steps, s)
	}
	return steps
}

// private is the line on standard error with which every command says which database it uses.
const private = "konstruct: no KONSTRUCT_DATABASE_URL is set: using the private database in .data\n"

// runSession runs a page's commands, and compares each one's answer with the page's.
func runSession(t *testing.T, dir, page string, lines []string, steps []step) {
	var script strings.Builder
	script.WriteString("exec 2>&1\n")
	for _, s := range steps {
		fmt.Fprintf(&script, "%s\nprintf '\\036%%d\\036' $?\n", s.command)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	bash := exec.CommandContext(ctx, "bash", "-c", script.String())
	bash.Dir, bash.Env = dir, environment()
	raw, err := bash.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	answers := strings.Split(strings.ReplaceAll(string(raw), private, ""), "\x1e")
	if len(answers) != 2*len(steps)+1 {
		t.Fatalf("%d commands gave %d answers:\n%s", len(steps), len(answers)/2, raw)
	}
	var edited []string
	kept := 0
	for i, s := range steps {
		want, got, code := lines[s.begin:s.end], linesOf(answers[2*i]), answers[2*i+1]
		edited = append(edited, lines[kept:s.begin]...)
		kept = s.end
		if matches(normal(want), normal(got)) {
			edited = append(edited, want...)
		} else {
			edited = append(edited, got...)
			t.Errorf("%s:%d: $ %s\nprinted:\n%s\nand the page says:\n%s", page, s.line, s.command,
				strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		// A command that fails is shown with what it says of that.
		if code != "0" && !slices.ContainsFunc(want, func(line string) bool {
			return strings.HasPrefix(line, "ERROR:") || strings.HasPrefix(line, "konstruct: ")
		}) {
			t.Errorf("%s:%d: $ %s\nends with exit code %s", page, s.line, s.command, code)
		}
	}
	if edited = append(edited, lines[kept:]...); *rewrite && !slices.Equal(edited, lines) {
		if err := os.WriteFile(page, []byte(strings.Join(edited, "\n")), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// linesOf are the lines of an answer, without the empty ones at its end.
func linesOf(answer string) (lines []string) {
	if answer = strings.TrimRight(answer, " \n"); answer == "" {
		return nil
	}
	for line := range strings.SplitSeq(answer, "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}

// kinds are what changes from run to run, and what stands for it when two lines are compared.
var kinds = []struct {
	pattern *regexp.Regexp
	is      string
}{
	{regexp.MustCompile(`konstruct\.invalid/[0-9a-f]{8}\+[0-9a-f]{8}\+[0-9A-Za-z+/]{44}=*`), "KEY"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)`), "TIME"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\d \d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d{3}Z?\b`), "TIME"},
	{regexp.MustCompile(`\[redacted:(\w+):[0-9a-f]{16}\]`), "[redacted:$1:MARK]"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms| s|s)\b`), "DURATION"},
	{regexp.MustCompile(`\b\d+ chunks/s`), "RATE"},
	{regexp.MustCompile(`\b[1-9]\d* bytes\b`), "SIZE"},
	{regexp.MustCompile(`^cluster +\d{19}$`), "cluster ID"},
	// What the private database holds of all tenants.
	{regexp.MustCompile(`\ba super-log of [1-9]\d* leaves`), "a super-log of COUNT leaves"},
	{regexp.MustCompile(`^[1-9]\d* events match`), "COUNT events match"},
	{regexp.MustCompile(`^[1-9]\d* leaves in [1-9]\d* logs lead to [1-9]\d* signed checkpoints; \d+ events? waits?`),
		"COUNT leaves lead to COUNT checkpoints; COUNT wait"},
	{regexp.MustCompile(`\bagrees at size [1-9]\d*`), "agrees at size COUNT"},
	{regexp.MustCompile(`  +`), " "},
}

var score = regexp.MustCompile(`^(\d+\. )(\d\.\d{3})\b`)

// normal are lines with what changes from run to run replaced by its kind, and a score rounded.
func normal(lines []string) (all []string) {
	for _, line := range lines {
		line = score.ReplaceAllStringFunc(line, func(s string) string {
			m := score.FindStringSubmatch(s)
			f, _ := strconv.ParseFloat(m[2], 64)
			return fmt.Sprintf("%s%.2f", m[1], math.Round(f*100)/100)
		})
		for _, k := range kinds {
			line = k.pattern.ReplaceAllString(line, k.is)
		}
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

// matches reports whether lines are those wanted, where "…" stands for any lines.
func matches(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] != "…" {
		return len(got) > 0 && want[0] == got[0] && matches(want[1:], got[1:])
	}
	for i := range len(got) + 1 {
		if matches(want[1:], got[i:]) {
			return true
		}
	}
	return false
}

// TestAWrongAnswerIsNoticed: what changes from run to run may differ, and nothing else.
func TestAWrongAnswerIsNoticed(t *testing.T) {
	for _, c := range []struct {
		page, printed string
		same          bool
	}{
		{"event 01a21dd0-9fa3-76e0-8da7-10753a31e1ba", "event 01a21dd8-e5ac-7146-a440-2dcde6dcfef6", true},
		{"event 01a21dd0-9fa3-76e0-8da7-10753a31e1ba", "event 01a21dd0", false},
		{"1. 0.817  returns.md", "1. 0.819  returns.md", true},
		{"1. 0.817  returns.md", "1. 0.517  returns.md", false},
		{"within 30 days", "within 31 days", false},
		{"6 events match their seals; 0 differ (99ms)", "18 events match their seals; 0 differ (1.2s)", true},
		{"6 events match their seals; 0 differ (99ms)", "6 events match their seals; 1 differ (99ms)", false},
		{"6 events match their seals; 0 differ (99ms)", "0 events match their seals; 0 differ (99ms)", false},
		{"bundle.zip: 1 event that matches", "bundle.zip: 2 events that match", false},
		{"a\n…\nd", "a\nb\nc\nd", true},
		{"a\n…\nd", "a\nd", true},
		{"a\n…\nd", "a\nb\nc", false},
		{"a", "a\nb", false},
		{"a\nb", "a", false},
		{"", "a", false},
	} {
		if matches(normal(linesOf(c.page)), normal(linesOf(c.printed))) != c.same {
			t.Errorf("%q and %q: want the same: %t", c.page, c.printed, c.same)
		}
	}
	session := "```\n$ a \\\n  b\nc\n\n$ cat <<'END'\nx\nEND\ny\n```\n\n```\nmake run\n$ d\n```\n$ e"
	var commands []string
	for _, s := range sessionsOf(strings.Split(session, "\n")) {
		commands = append(commands, s.command)
	}
	if want := []string{"a \\\n  b", "cat <<'END'\nx\nEND"}; !slices.Equal(commands, want) {
		t.Errorf("the commands are %q", commands)
	}
}

// TestTheCastShowsTheTour draws README's picture from README's own commands and answers, which are run above.
func TestTheCastShowsTheTour(t *testing.T) {
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	drawn := cast(lines, sessionsOf(lines))
	if *rewrite {
		if err := os.WriteFile("docs/tour.svg", []byte(drawn), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := os.ReadFile("docs/tour.svg"); err != nil || string(there) != drawn {
		t.Errorf("docs/tour.svg is not README's tour (%v): go test . -run TheCast -rewrite", err)
	}
}

// cast draws a terminal in which some of a tour's commands run, one after the other. Where nothing moves, all is there.
func cast(lines []string, steps []step) string {
	const width, height, columns = 860, 18, 100
	var body strings.Builder
	row := 0
	print := func(class, text string) {
		if r := []rune(text); len(r) > columns {
			text = string(r[:columns-1]) + "…"
		}
		if text != "" {
			fmt.Fprintf(&body, `<text xml:space="preserve" class="%s" style="animation-delay:%.1fs" x="20" y="%d">`,
				class, float64(row)*0.3, 62+row*height)
			fmt.Fprintf(&body, "%s</text>\n", html.EscapeString(text))
		}
		row++
	}
	for _, s := range steps {
		if !regexp.MustCompile(`kb search|--text \d|audit erase|psql|audit verify`).MatchString(s.command) {
			continue
		}
		print("command", "$ "+s.command)
		for _, line := range lines[s.begin:s.end] {
			switch trimmed := strings.TrimSpace(line); {
			case strings.HasPrefix(trimmed, "✓"), strings.HasPrefix(line, "This bundle holds"):
				print("good", line)
			case strings.HasPrefix(line, "ERROR:"):
				print("bad", line)
			case trimmed != "…":
				print("plain", line)
			}
		}
		print("", "")
	}
	full := 62 + row*height
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d"
  height="%[2]d" role="img">
<title>Konstruct's tour in a terminal</title>
<style>
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre;
  animation: show .2s backwards }
.command { fill: #ffffff; font-weight: bold } .plain { fill: #c9d1d9 } .good { fill: #7ee787 } .bad { fill: #ff7b72 }
@keyframes show { from { opacity: 0 } }
@media (prefers-reduced-motion: reduce) { text { animation: none } }
</style>
<rect x=".5" y=".5" width="%[3]d" height="%[4]d" rx="8" fill="#0d1117" stroke="#444c56"/>
<circle cx="20" cy="20" r="6" fill="#ff5f57"/><circle cx="40" cy="20" r="6" fill="#febc2e"/>`+
		`<circle cx="60" cy="20" r="6" fill="#28c840"/>
%[5]s</svg>
`, width, full, width-1, full-1, body.String())
}
