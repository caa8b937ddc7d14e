package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/search"
)

// searchFlags say how to look for an answer.
type searchFlags struct {
	tenantFlag
	agentFlag
	TopK int    `help:"How many passages, up to 100." default:"5"`
	User string `help:"On whose behalf."`
	Mode string `help:"semantic, lexical, or hybrid (both)." enum:"semantic,lexical,hybrid" default:"hybrid"`

	Label []string `help:"Labels that the asker has; '*' is every label." placeholder:"NAME"`

	Collection []string `help:"Only documents of these collections." placeholder:"NAME"`

	Where  []string `help:"Only documents that meet this. Can be repeated." placeholder:"CONDITION" sep:"none"`
	Filter string   `help:"Only documents that meet this, or @FILE." placeholder:"JSON"`

	MinScore        *float64      `help:"Leave out passages that score less." placeholder:"SCORE"`
	Diversity       float64       `help:"How much passages are to differ, from 0 to 1." default:"0"`
	PerDoc          bool          `name:"per-document" help:"The best passage of each document alone."`
	Around          int           `help:"Passages before and after each, up to 10." default:"0" aliases:"neighbours"`
	Within          time.Duration `help:"Give up when the database takes longer." placeholder:"TIME"`
	LexicalFallback bool          `help:"Search by words while the model is unavailable."`
	Rerank          bool          `help:"Let KONSTRUCT_RERANK_URL order the first 50."`
	Operators       *bool         `help:"Whether quotes, - and * are operators." negatable:""`
	Duplicates      bool          `help:"Show each of several equal passages."`
}

// conditionHelp says what --where takes.
const conditionHelp = "A CONDITION compares a field, as metadata.team=legal: docs/search.md names all."

func (f searchFlags) request(text, after string) (q konstruct.SearchRequest, err error) {
	q = konstruct.SearchRequest{Text: text, TopK: f.TopK, UserID: f.User, Mode: search.Mode(f.Mode), Labels: f.Label,
		Collections: f.Collection,
		MinScore:    f.MinScore, Diversity: f.Diversity, PerDocument: f.PerDoc, Neighbours: f.Around,
		Within: f.Within, Operators: f.Operators, Duplicates: f.Duplicates,
		LexicalFallback: f.LexicalFallback, Rerank: f.Rerank, After: after}
	if f.TopK < 1 {
		return q, &search.QueryError{Field: "top-k", Reason: fmt.Sprintf("%d: it is 1 to %d", f.TopK, search.MaxHits)}
	}
	for _, w := range f.Where {
		c, err := search.ParseCondition(w)
		if err != nil {
			return q, err
		}
		q.Where = append(q.Where, c)
	}
	if f.Filter != "" {
		if q.Filter, err = readFilter(f.Filter); err != nil {
			return q, err
		}
	}
	return q, nil
}

// maxFilterFile is the bytes of a filter's file that are read: more than a filter may have.
const maxFilterFile = 1 << 20

// readFilter reads a filter, or the file that it names.
func readFilter(s string) (*search.Filter, error) {
	raw := []byte(s)
	if name, ok := strings.CutPrefix(s, "@"); ok {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read the filter: %w", err)
		}
		defer file.Close()
		if raw, err = io.ReadAll(io.LimitReader(file, maxFilterFile+1)); err != nil {
			return nil, fmt.Errorf("read the filter: %w", err)
		}
	}
	if len(raw) > maxFilterFile {
		return nil, &search.QueryError{Field: "filter", Reason: fmt.Sprintf("it has more than %d bytes", maxFilterFile)}
	}
	return search.ParseFilter(raw)
}

type kbSearchCmd struct {
	searchFlags
	Questions []string `arg:"" name:"question" help:"What to look for; each is a search of its own."`
	After     string   `help:"Continue after what an earlier search ended with." placeholder:"PLACE"`
}

// Help is shown by --help.
func (kbSearchCmd) Help() string {
	return conditionHelp + " In lexical mode \"a phrase\" must occur, -word must not, begin* is a prefix." +
		"\n\nExamples:\n\n" +
		"  konstruct kb search --tenant $T \"How are dead rows reclaimed?\" --top-k 3\n" +
		"  konstruct kb search --tenant $T \"warranty\" --where metadata.team=legal --where 'ingested>=2026-01-01' " +
		"--around 1"
}

// Run searches and prints what was found.
func (c kbSearchCmd) Run(ctx context.Context, a *app) error {
	var questions []konstruct.SearchRequest
	for _, text := range c.Questions {
		q, err := c.request(text, c.After)
		if err != nil {
			return err
		}
		questions = append(questions, q)
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	all, err := c.agent(k.Tenant(c.Tenant), c.Tenant).SearchBatch(ctx, questions)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Hits == nil {
			all[i].Hits = []konstruct.Hit{}
		}
	}
	if a.JSON && len(all) == 1 {
		return a.json(all[0])
	} else if a.JSON {
		return a.json(all)
	}
	for i, r := range all {
		if len(all) > 1 {
			fmt.Fprintln(a.out, a.bold(printable(oneLine(c.Questions[i], 110))))
		}
		if r.Fallback != "" {
			fmt.Fprintf(a.err, "by words alone: %s\n", printable(r.Fallback))
		}
		for _, sp := range r.Spelled {
			fmt.Fprintf(a.err, "no passage has %q: looked for %s too\n", sp.From, strings.Join(sp.To, ", "))
		}
		if len(r.Hits) == 0 {
			fmt.Fprintln(a.out, c.nothingFound(r.Plan.Chunks))
		} else {
			a.printHits(r.Hits, r.Plan.Mode, 3)
		}
		if r.Next != "" {
			fmt.Fprintf(a.err, "more: --after %s\n", r.Next)
		}
		fmt.Fprintf(a.out, "event %s\n", r.EventID)
	}
	return nil
}

// nothingFound says so, and where to look, in a tenant with so many passages.
func (f searchFlags) nothingFound(passages int) string {
	switch {
	case passages == 0:
		return "nothing found: the tenant has no passages that this search may see"
	case len(f.Where) > 0 || f.Filter != "":
		return "nothing found: does any document meet the conditions? Values are compared as written, case included"
	}
	return "nothing found"
}

// printHits prints passages, each with at most some lines of its text.
func (a *app) printHits(hits []konstruct.Hit, mode search.Mode, lines int) {
	if len(hits) == 0 {
		fmt.Fprintln(a.out, "nothing found")
	}
	for i, h := range hits {
		where := h.Filename
		if h.Page > 0 {
			where += fmt.Sprintf(", page %d", h.Page)
		}
		if len(h.Headings) > 0 {
			where += " › " + strings.Join(h.Headings, " › ")
		}
		fmt.Fprintf(a.out, "%d. %s  %s\n", i+1, a.green(scoreText(h, mode)), a.bold(printable(oneLine(where, 110))))
		text := func(content string, paint func(string) string) {
			for _, l := range wrap(printable(oneLine(content, 100*lines)), 100) {
				fmt.Fprintf(a.out, "   %s\n", paint(l))
			}
		}
		for _, p := range h.Before {
			text(p.Content, a.dim)
		}
		text(h.Content, func(s string) string { return s })
		for _, t := range h.Also {
			fmt.Fprintf(a.out, "   %s\n", a.dim("also in "+printable(oneLine(t.Filename, 80))))
		}
		for _, p := range h.After {
			text(p.Content, a.dim)
		}
	}
}

// scoreText names the score that the search's event holds, which audit explain prints too, and the similarity, which
// unlike most scores has a scale.
func scoreText(h konstruct.Hit, mode search.Mode) string {
	score := fmt.Sprintf("score %.3f", h.Score)
	switch {
	case mode == search.Lexical:
		return score + " (BM25)"
	case mode == search.Hybrid && h.Similarity != nil:
		return score + fmt.Sprintf(" (similarity %.3f)", *h.Similarity)
	}
	return score
}

// wrap breaks text between words.
func wrap(s string, width int) (lines []string) {
	line, n := "", 0
	for _, w := range strings.Fields(s) {
		if size := len([]rune(w)); n > 0 && n+1+size > width {
			lines, line, n = append(lines, line), w, size
		} else if n == 0 {
			line, n = w, size
		} else {
			line, n = line+" "+w, n+1+size
		}
	}
	return append(lines, line)
}

type kbCiteCmd struct {
	tenantFlag
	ID     uuid.UUID `arg:"" help:"The passage's id."`
	Around int       `help:"How many bytes of text to show around it, up to 65536." default:"400"`
}

// Run shows a passage in the text of its document.
func (c kbCiteCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	p, err := k.Tenant(c.Tenant).Documents().Passage(ctx, c.ID, c.Around)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(p)
	}
	fmt.Fprintf(a.out, "%s, bytes %d-%d of document %s\n\n", a.bold(printable(p.Filename)), p.Start, p.End,
		p.DocumentID)
	lines := func(s string, paint func(string) string) string {
		all := strings.Split(s, "\n")
		for i := range all {
			if all[i] = printable(strings.TrimRight(all[i], "\r")); all[i] != "" {
				all[i] = paint(all[i])
			}
		}
		return strings.Join(all, "\n")
	}
	_, err = fmt.Fprintf(a.out, "%s»%s«%s\n", lines(p.Before, a.dim), lines(p.Text, a.green), lines(p.After, a.dim))
	return err
}

type kbExplainCmd struct {
	searchFlags
	Question string `arg:"" help:"What to look for."`
}

// Help is shown by --help.
func (kbExplainCmd) Help() string {
	return "Searches, and shows how: which words counted, what each hit's score is made of, and the database's plan. " +
		"Nothing is recorded. " +
		conditionHelp + "\n\nExample:\n\n  konstruct " +
		"kb explain --tenant $T \"How are dead rows reclaimed?\" --mode semantic"
}

// Run explains.
func (c kbExplainCmd) Run(ctx context.Context, a *app) error {
	q, err := c.request(c.Question, "")
	if err != nil {
		return err
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	e, err := c.agent(k.Tenant(c.Tenant), c.Tenant).ExplainSearch(ctx, q)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(e)
	}
	say := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	say("mode", "%s, %d candidates of each list", e.Mode, e.Depth)
	if e.Tier != "" {
		say("tier", "%s: %s", e.Tier, e.Reason)
	}
	say("passages", "%d of the tenant's", e.Chunks)
	if e.Matching >= 0 {
		say("conditions", "leave some %s", plural.Of(e.Matching, "passage", "passages"))
	}
	if e.Index != "" {
		say("index", "%s, ef_search %d", e.Index, e.EfSearch)
	}
	say("rows", "%d estimated, %d real; %s", e.Estimated, e.Actual, plural.Of(e.Hits, "hit", "hits"))
	if o := e.TenantIndex; o != nil {
		state := "not there"
		if o.Complete {
			state = fmt.Sprintf("%d MB, made of %s", o.Bytes>>20, plural.Of(o.Chunks, "passage", "passages"))
		}
		if o.Recall != nil {
			state += fmt.Sprintf(", recall@10 %.3f over %s with ef_search %d", *o.Recall,
				plural.Of(*o.Queries, "question", "questions"), o.EfSearch)
		}
		if o.Problem != "" {
			state += "; could not be made: " + o.Problem
		}
		say("own index", "%s", state)
	}
	a.explainRanking(e)
	for _, l := range e.Explain {
		fmt.Fprintln(a.out, a.dim(printable(l)))
	}
	return nil
}

// explainRanking prints what each word counts, and what the score of each hit is made of.
func (a *app) explainRanking(e search.Explanation) {
	for _, w := range e.Words {
		counts := w.Note
		if w.Weight > 0 {
			counts = fmt.Sprintf("counts %.3g, as %s", w.Weight, strings.Join(w.Terms, ", "))
			if w.Note != "" {
				counts += " (" + w.Note + ")"
			}
		}
		fmt.Fprintf(a.out, "word       %s: %s\n", printable(w.Word), printable(counts))
	}
	for i, h := range e.Ranking {
		parts := ""
		if h.Similarity != nil {
			parts += fmt.Sprintf(", similarity %.3f", *h.Similarity)
		}
		if h.LexicalScore != nil {
			parts += fmt.Sprintf(", words %.3f", *h.LexicalScore)
		}
		fmt.Fprintf(a.out, "%d. score %.3f%s  %s\n", i+1, h.Score, parts, a.bold(printable(oneLine(h.Filename, 80))))
		for _, c := range h.Words {
			fmt.Fprintf(a.out, "   %.3f  %s, %s of %s that %s it\n", c.Score, printable(c.Word),
				plural.Of(c.Times, "time", "times"), plural.Of(c.Passages, "passage", "passages"),
				plural.Word(c.Passages, "has", "have"))
		}
	}
}

type kbTuneCmd struct{ tenantFlag }

// Run tunes.
func (c kbTuneCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	t, err := k.Tenant(c.Tenant).TuneIndex(ctx)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(t)
	}
	if !t.Indexed {
		_, err := fmt.Fprintln(a.out, "nothing to tune: this tenant has no index of its own, every passage is compared")
		return err
	}
	if err := printTable(a, t.Steps, []string{"EF_SEARCH", "RECALL@10", "MEDIAN"}, func(s search.TuningStep) []string {
		return []string{fmt.Sprint(s.EfSearch), fmt.Sprintf("%.4f", s.Recall),
			s.Median.Round(10 * time.Microsecond).String()}
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "ef_search is %d from now on: recall@10 %.4f over %s\n", t.EfSearch,
		*t.Recall, plural.Of(t.Queries, "question", "questions"))
	return err
}

type kbGlobalIndexCmd struct {
	What string `arg:"" enum:"drop,create" help:"drop or create."`
}

// Help is shown by --help.
func (kbGlobalIndexCmd) Help() string {
	return "ix_kb_chunks_hnsw is part of the seed's schema: its clients' searches use it, and ours do not. Where " +
		"there are no such clients, dropping it makes ingesting several times as fast (docs/benchmarks.md); nobody " +
		"waits for it either way. It needs KONSTRUCT_OWNER_DATABASE_URL."
}

// Run makes or drops it.
func (c kbGlobalIndexCmd) Run(ctx context.Context, a *app) error {
	s, done, err := a.openSchema(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.GlobalIndex(ctx, c.What == "create"); err != nil {
		return err
	}
	said := map[string]string{"drop": "dropped", "create": "made"}
	_, err = fmt.Fprintln(a.out, said[c.What], "ix_kb_chunks_hnsw")
	return err
}
