package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/plural"
)

type kbCmd struct {
	Ingest     kbIngestCmd      `cmd:"" help:"Ingest files, folders, archives, buckets, pages and sites."`
	Work       kbWorkCmd        `cmd:"" help:"Ingest what was enqueued with ingest --later, of all tenants, fairly."`
	Jobs       kbJobsCmd        `cmd:"" help:"What was enqueued with ingest --later, and what became of it."`
	Reembed    kbReembedCmd     `cmd:"" help:"Embed the passages with another model and search by it; or go back."`
	Models     kbModelsCmd      `cmd:"" help:"The models whose vectors there are beside the first's."`
	Collection kbCollectionCmd  `cmd:"" help:"Named sets of documents that searches can be restricted to."`
	Search     kbSearchCmd      `cmd:"" help:"Find the passages that answer a question; the search is audited."`
	Cite       kbCiteCmd        `cmd:"" help:"Show a passage that was cited, marked in its place."`
	Explain    kbExplainCmd     `cmd:"" help:"Show how a search is done: tier, index, rows, the database's plan."`
	Language   kbLanguageCmd    `cmd:"" help:"Show or set the language of texts that give no evidence of theirs."`
	Tune       kbTuneCmd        `cmd:"" help:"Find out how far a tenant's own index must look (hnsw.ef_search)."`
	Global     kbGlobalIndexCmd `cmd:"" name:"global-index" help:"Make or drop the seed's index over all tenants."`
	Eval       kbEvalCmd        `cmd:"" help:"Measure searches on a collection with known answers (BEIR)."`
	List       kbListCmd        `cmd:"" help:"List the documents."`
	Show       kbShowCmd        `cmd:"" help:"Show a document and its passages."`
	Rm         kbRmCmd          `cmd:"" help:"Remove documents."`
}

// agentFlag names the agent that acts; a person at the command line is one of the tenant's own.
type agentFlag struct {
	Agent uuid.UUID `help:"The agent." env:"KONSTRUCT_AGENT" placeholder:"UUID"`
}

// id returns the agent's id in a tenant.
func (f agentFlag) id(tenant uuid.UUID) uuid.UUID {
	if f.Agent == uuid.Nil {
		return uuid.NewSHA1(tenant, []byte("konstruct command line"))
	}
	return f.Agent
}

func (f agentFlag) agent(t *konstruct.Tenant, tenant uuid.UUID) *konstruct.Agent {
	return t.Agent(f.id(tenant))
}

type kbIngestCmd struct {
	tenantFlag
	agentFlag
	documentFlags
	Paths []string `arg:"" complete:"file" help:"Files, folders, archives, URLs, buckets."`

	Later  bool          `help:"Hand them over to konstruct kb work." xor:"when"`
	Watch  bool          `help:"Go on, and ingest what changes." xor:"when"`
	Every  time.Duration `help:"How often --watch looks." default:"5s"`
	Links  bool          `name:"follow-links" help:"Follow links that lead out of a folder."`
	Delete bool          `help:"With --watch: remove what has no file any more."`
}

// documentFlags are the options of documents.
type documentFlags struct {
	Label []string `help:"Who sees them: whoever has such a label." placeholder:"NAME"`

	Metadata map[string]string `help:"Anything else to say of them." placeholder:"KEY=VALUE" mapsep:","`

	Collection []string `help:"Collections that they join." placeholder:"NAME"`
	attributeFlag
	chunkFlags
}

// chunkFlags say how documents are split.
type chunkFlags struct {
	ChunkTokens  *int `help:"Windows of N tokens, 100 to 4096; 0: structure." placeholder:"N"`
	ChunkOverlap int  `help:"How many of them the next window repeats." placeholder:"N"`
}

// chunking is nil where nothing was said: a document keeps what it has.
func (f chunkFlags) chunking() *chunk.Options {
	if f.ChunkTokens == nil && f.ChunkOverlap == 0 {
		return nil
	}
	o := chunk.Options{Overlap: f.ChunkOverlap}
	if f.ChunkTokens != nil {
		o.MaxTokens = *f.ChunkTokens
	}
	return &o
}

// AfterApply refuses what can't be used.
func (f chunkFlags) AfterApply() error {
	if o := f.chunking(); o != nil {
		if err := o.Check(); err != nil {
			reason := strings.NewReplacer("max_tokens", "--chunk-tokens", "overlap_tokens",
				"--chunk-overlap").Replace(err.Error())
			return coded{errors.New(reason), exitUsage}
		}
	}
	return nil
}

// options are the options; collections are looked up in the tenant.
func (f documentFlags) options(ctx context.Context, t *konstruct.Tenant) (konstruct.DocumentOptions, error) {
	g := konstruct.DocumentOptions{Labels: f.Label, Attributes: f.attributes(), Chunking: f.chunking()}
	var err error
	if g.Collections, err = t.Collections().Find(ctx, f.Collection...); err != nil {
		return g, fmt.Errorf("--collection %w", err)
	}
	if len(f.Label) == 1 && f.Label[0] == "" {
		g.Labels = []string{}
	}
	for k, v := range f.Metadata {
		if g.Metadata == nil {
			g.Metadata = map[string]any{}
		}
		g.Metadata[k] = v
	}
	return g, g.Check()
}

// Help is shown by --help.
func (kbIngestCmd) Help() string {
	return "Reads Office, OpenDocument, PDF, e-books, mail, HTML, Markdown, tables, data and programs; pages, " +
		"sitemaps and feeds by their URL; buckets as s3://BUCKET/PREFIX?endpoint=https://HOST. Unchanged files " +
		"stay, changed ones are replaced; hidden files, other kinds and links that lead out of a folder are passed " +
		"over. --label= takes labels away; without --label they stay.\n\n" +
		"Exit code 3 when some files failed and some did not.\n\nExamples:\n\n" +
		"  konstruct kb ingest --tenant $T docs/ handbook.pdf mail.mbox https://example.com/sitemap.xml\n" +
		"  konstruct kb ingest --tenant $T --later s3://bucket/contracts --label legal\n" +
		"  konstruct kb ingest --tenant $T --watch docs/"
}

// Run ingests the files.
func (c kbIngestCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	agent := c.agent(k.Tenant(c.Tenant), c.Tenant)
	if c.Links {
		agent = agent.FollowLinks()
	}
	options, err := c.options(ctx, k.Tenant(c.Tenant))
	if err != nil {
		return err
	}
	switch {
	case c.Watch:
		return c.watch(ctx, a, agent, options)
	case c.Delete:
		return coded{errors.New("--delete: it is for --watch"), exitUsage}
	case c.Later:
		return c.enqueue(ctx, a, agent, options)
	}
	s, err := a.ingest(ctx, agent, c.Paths, c.Links, options)
	if err != nil {
		return err
	}
	if a.JSON {
		err = a.json(s)
	} else {
		s.print(a)
	}
	if err != nil {
		return err
	}
	return partialFailure(len(s.Failed), s.Added+s.Replaced+s.Unchanged, "ingested")
}

// partialFailure is the error of a command at which some files failed.
func partialFailure(failed, others int, what string) error {
	switch {
	case failed == 0:
		return nil
	case others == 0:
		return fmt.Errorf("none of %s was %s", plural.Of(failed, "file", "files"), what)
	}
	return coded{fmt.Errorf("%d of %d files %s not %s", failed, failed+others,
		plural.Word(failed, "was", "were"), what), exitPartial}
}

// summary is what became of an ingest.
type summary struct {
	Added     int `json:"added"`
	Replaced  int `json:"replaced"`
	Unchanged int `json:"unchanged"`
	Skipped   int `json:"skipped"` // of other kinds, in folders
	linksOut
	Chunks  int64        `json:"chunks"`
	Seconds float64      `json:"seconds"`
	Failed  []failedFile `json:"failed"`
}

// linksOut are links that were skipped because they lead out of their folder or archive.
type linksOut struct {
	Links     int      `json:"links_passed_over"`
	LinkPaths []string `json:"links"` // the first of them
}

// maxLinks is how many links are named.
const maxLinks = 1000

func (l *linksOut) add(path string) {
	if l.Links++; l.Links <= maxLinks {
		l.LinkPaths = append(l.LinkPaths, path)
	}
}

// names prints which links were skipped, and what to do about it.
func (l *linksOut) names(a *app) {
	for _, path := range l.LinkPaths {
		fmt.Fprintf(a.err, "skipped %s: %s (--follow-links follows those of folders)\n", printable(path),
			kb.ErrOutsideLink)
	}
	if n := l.Links - len(l.LinkPaths); n > 0 {
		fmt.Fprintf(a.err, "skipped %s\n", plural.Of(n, "more link", "more links"))
	}
}

// count is how many they are, for a summary; empty for none.
func (l *linksOut) count() string {
	if l.Links == 0 {
		return ""
	}
	return ", " + plural.Of(l.Links, "link that leads", "links that lead") + " out skipped"
}

type failedFile struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

func (a *app) ingest(ctx context.Context, agent *konstruct.Agent, paths []string, links bool,
	given konstruct.DocumentOptions) (*summary, error) {
	s := newSummary()
	total := int64(kb.CountFiles(paths, links))
	start, p := time.Now(), a.newProgress("files", "chunks", total)
	defer p.done()
	var files, chunks int64
	results := make(chan konstruct.IngestResult)
	more := make(chan int)
	end := make(chan error, 1)
	go func() {
		end <- agent.Ingest(ctx, paths, given, func(r konstruct.IngestResult) {
			results <- r
		}, func(n int) { more <- n })
	}()
	for {
		select {
		case err := <-end:
			s.Seconds, s.Chunks = time.Since(start).Seconds(), chunks
			return s, err
		case n := <-more:
			chunks += int64(n)
		case r := <-results:
			files++
			s.add(r)
		}
		p.set(files, max(files, total), chunks)
	}
}

func newSummary() *summary {
	return &summary{linksOut: linksOut{LinkPaths: []string{}}, Failed: []failedFile{}}
}

func (s *summary) add(r konstruct.IngestResult) {
	switch {
	case errors.Is(r.Err, kb.ErrOutsideLink):
		s.linksOut.add(r.Path)
	case r.Skipped:
		s.Skipped++
	case r.Err != nil:
		s.Failed = append(s.Failed, failedFile{r.Path, r.Err.Error()})
	case r.Outcome == kb.Added:
		s.Added++
	case r.Outcome == kb.Replaced:
		s.Replaced++
	default:
		s.Unchanged++
	}
}

// failures prints what could not be ingested, and why.
func (a *app) failures(all []failedFile) {
	for _, f := range all {
		fmt.Fprintf(a.err, "%s %s: %s\n", a.red("failed"), printable(f.Path), printable(f.Error))
	}
}

func (s *summary) print(a *app) {
	a.failures(s.Failed)
	s.names(a)
	fmt.Fprintf(a.out,
		"%d added, %d replaced, %d unchanged, %d failed, %d of other kinds skipped%s; %s in %.1f s",
		s.Added, s.Replaced, s.Unchanged, len(s.Failed), s.Skipped, s.count(), plural.Of(s.Chunks, "chunk", "chunks"),
		s.Seconds)
	if s.Chunks > 0 {
		fmt.Fprintf(a.out, " (%.0f chunks/s)", float64(s.Chunks)/s.Seconds)
	}
	fmt.Fprintln(a.out)
}

type kbListCmd struct {
	tenantFlag
	Limit int       `help:"How many at most, up to 1000." default:"100"`
	After uuid.UUID `help:"Continue after this document." placeholder:"UUID"`
}

// Run lists the documents.
func (c kbListCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	docs, err := k.Tenant(c.Tenant).Documents().List(ctx, c.After, c.Limit)
	if err != nil {
		return err
	}
	if docs == nil {
		docs = []konstruct.Document{}
	}
	err = printTable(a, docs, []string{"DOCUMENT", "FILE", "TITLE", "TYPE", "CHUNKS", "BYTES", "INGESTED"},
		func(d konstruct.Document) []string {
			return []string{d.ID.String(), oneLine(d.Filename, 40), oneLine(d.Title, 30), d.ContentType,
				fmt.Sprint(d.Chunks), fmt.Sprint(d.Bytes), d.IngestedAt.UTC().Format("2006-01-02 15:04")}
		})
	if err == nil && !a.JSON && len(docs) == c.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", docs[len(docs)-1].ID)
	}
	return err
}

type kbShowCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The document's id."`
}

// Run shows a document.
func (c kbShowCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	t := k.Tenant(c.Tenant)
	d, passages, err := t.Documents().Get(ctx, c.ID)
	if err != nil {
		return err
	}
	versions, err := t.Documents().Versions(ctx, c.ID)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(struct {
			konstruct.Document
			Passages []konstruct.Passage `json:"passages"`
			Before   []kb.Version        `json:"earlier_versions,omitempty"`
		}{d, passages, versions})
	}
	fmt.Fprintf(a.out, "%s\n%s, %d bytes, sha256 %s, ingested %s\n", a.bold(printable(d.Filename)), d.ContentType,
		d.Bytes, d.SHA256, d.IngestedAt.UTC().Format(time.RFC3339))
	fmt.Fprintln(a.out, printable(d.Source))
	if about := describeFile(d); about != "" {
		fmt.Fprintln(a.out, printable(about))
	}
	fmt.Fprintln(a.out, "read in", d.Language)
	if len(d.Labels) > 0 {
		fmt.Fprintln(a.out, "for", printable(strings.Join(d.Labels, ", ")))
	}
	for _, v := range versions {
		fmt.Fprintf(a.out, "version %d: %d bytes, sha256 %s, %s to %s\n", v.Version, v.Bytes, v.SHA256,
			v.IngestedAt.UTC().Format(time.RFC3339), v.ReplacedAt.UTC().Format(time.RFC3339))
	}
	for _, p := range passages {
		where := fmt.Sprintf("%d. bytes %d-%d", p.Index+1, p.Start, p.End)
		if p.Page > 0 {
			where += fmt.Sprintf(", page %d", p.Page)
		}
		fmt.Fprintf(a.out, "\n%s %s\n", a.dim(where), a.bold(printable(strings.Join(p.Headings, " › "))))
		for _, line := range strings.Split(p.Content, "\n") {
			fmt.Fprintln(a.out, printable(line))
		}
	}
	return nil
}

// describeFile formats the metadata of a document's file.
func describeFile(d konstruct.Document) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+value)
		}
	}
	day := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.Format(time.DateOnly)
	}
	add("", d.Title)
	add("by ", d.FileInfo.Author)
	add("language ", d.FileInfo.Language)
	add("created ", day(d.FileInfo.Created))
	add("modified ", day(d.FileInfo.Modified))
	return strings.Join(parts, ", ")
}

type kbRmCmd struct {
	tenantFlag
	agentFlag
	IDs []uuid.UUID `arg:"" name:"id" help:"Documents' ids."`
}

// Run removes documents.
func (c kbRmCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	type removed struct {
		Document uuid.UUID `json:"document_id"`
		Event    uuid.UUID `json:"event_id"`
	}
	all := []removed{}
	for _, id := range c.IDs {
		event, err := c.agent(k.Tenant(c.Tenant), c.Tenant).Remove(ctx, id)
		if err != nil {
			if a.JSON { // those before it are gone
				err = errors.Join(err, a.json(map[string]any{"removed": all}))
			}
			return err
		}
		all = append(all, removed{id, event})
		if !a.JSON {
			fmt.Fprintf(a.out, "removed %s, event %s\n", id, event)
		}
	}
	return a.result(map[string]any{"removed": all}, "")
}
