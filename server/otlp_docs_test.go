package server_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/otel"
)

var rewriteCapture = flag.Bool("rewrite-capture", false, "write the tables of docs/capture.md anew")

// TestTheCapturePageIsWhatTheMappingKnows holds the tables of docs/capture.md against the mapping's table and the
// recordings.
func TestTheCapturePageIsWhatTheMappingKnows(t *testing.T) {
	const page = "../docs/capture.md"
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	attributes := "| field | attributes |\n| --- | --- |\n"
	for _, s := range otel.Sources() {
		attributes += fmt.Sprintf("| `%s` | `%s` |\n", s.Field, strings.Join(s.Names, "`, `"))
	}
	got := between(string(raw), "attributes", attributes)
	got = between(got, "recordings", recordingsTable(t))
	if *rewriteCapture {
		if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != string(raw) {
		t.Error("docs/capture.md is not what the mapping knows; write it anew with -rewrite-capture")
	}
}

func between(page, name, table string) string {
	begin, end := "<!-- "+name+" -->\n", "<!-- end -->"
	before, rest, found := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return page
	}
	return before + begin + table + end + after
}

// recordingsTable counts what the recorded exports of each source become.
func recordingsTable(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile("../otel/testdata/exports/README.md")
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)\n\n(.+)\.$`).FindAllStringSubmatch(string(readme), -1) {
		versions[m[1]] = m[2]
	}
	cases, truths := recordings(t)
	type row struct{ cases, calls, tools, in, out int64 }
	rows := map[string]*row{}
	for name, files := range cases {
		source, _, _ := strings.Cut(name, "/")
		if rows[source] == nil {
			rows[source] = &row{}
		}
		r := rows[source]
		r.cases++
		for _, c := range append(slices.Clone(truths[name].Calls), truths[name].Embeddings...) {
			if c.Status < 400 {
				r.calls, r.in, r.out = r.calls+1, r.in+c.InputTokens, r.out+c.OutputTokens
			}
		}
		for _, f := range files {
			for m := range mappedFile(t, f) {
				if m.Event.Action == audit.ActionToolCall {
					r.tools++
				}
			}
		}
	}
	table := "| source | versions | cases | model calls | tokens in, out | reports of tools |\n" +
		"| --- | --- | --- | --- | --- | --- |\n"
	sources := make([]string, 0, len(rows))
	for source := range rows {
		sources = append(sources, source)
	}
	slices.Sort(sources)
	for _, source := range sources {
		r := rows[source]
		table += fmt.Sprintf("| %s | %s | %d | %d | %d, %d | %d |\n", source, versions[source], r.cases, r.calls, r.in,
			r.out, r.tools)
	}
	return table
}
