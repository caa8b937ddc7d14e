package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/eval"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/search"
)

type kbEvalCmd struct {
	agentFlag
	Dir   string `arg:"" type:"existingdir" help:"The collection: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."`
	Split string `help:"Which judgements: a file in qrels/, without .tsv." default:"test"`

	Tenant string `help:"Ingest it as this tenant, not one of its own." env:"KONSTRUCT_EVAL_TENANT" placeholder:"UUID"`

	Mode   []string `help:"By what to search." enum:"semantic,lexical,hybrid" default:"semantic,lexical,hybrid"`
	Whole  bool     `help:"Embed each document whole, as far as the model reads, instead of cut into passages."`
	Join   int      `help:"Join so many documents into one, as long documents hold many subjects." default:"1"`
	First  bool     `name:"first-piece" help:"Of a chunk that the model reads in pieces, embed the first alone."`
	Runs   string   `help:"Write what was returned into this folder, in TREC's format." type:"path" placeholder:"DIR"`
	Rerank bool     `help:"Also with the reranker (KONSTRUCT_RERANK_URL)."`

	chunkFlags
}

// Help is shown by --help.
func (kbEvalCmd) Help() string {
	return "Ingests the collection, asks each question, and reports nDCG@10, Recall@10, Recall@100, MRR@10 and " +
		"MAP@100 as trec_eval defines them, with 95 % intervals by bootstrap over the questions. Documents already " +
		"there are not ingested again. Without --tenant the collection is a tenant of its own, and nothing else is. " +
		"The files of --runs are for trec_eval and its like.\n\nExample:\n\n  konstruct kb eval scifact/ --runs runs/"
}

// modeScore is what one mode reached.
type modeScore struct {
	Mode    string       `json:"mode"`
	Scores  []eval.Score `json:"scores"`
	Seconds float64      `json:"seconds"`
}

// Run measures.
func (c kbEvalCmd) Run(ctx context.Context, a *app) error {
	collection, err := eval.Read(c.Dir, c.Split)
	if err != nil {
		return err
	}
	if c.Join < 1 {
		return coded{errors.New("--join: it is 1 or more"), exitUsage}
	}
	collection.Join(c.Join)
	tenant, err := c.tenant()
	if err != nil {
		return err
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	agent := c.agent(k.Tenant(tenant), tenant)
	if err := c.ingest(ctx, a, k, agent, tenant, &collection); err != nil {
		return err
	}
	var all []modeScore
	modes := c.Mode
	if c.Rerank {
		modes = append(modes, "reranked")
	}
	for _, mode := range modes {
		start := time.Now()
		run, err := c.run(ctx, a, agent, &collection, mode)
		if err != nil {
			return err
		}
		all = append(all, modeScore{mode, eval.Evaluate(&collection, run), time.Since(start).Seconds()})
		if c.Runs == "" {
			continue
		}
		if err := c.write(&collection, run, mode); err != nil {
			return err
		}
	}
	if n := len(collection.Unanswered); n > 0 {
		fmt.Fprintf(a.err, "%d of %d questions count 0 in each mean, because none of their answers is a document "+
			"that says anything: %s\n",
			n, len(collection.Queries), oneLine(strings.Join(collection.Unanswered, ", "), 200))
	}
	if !a.JSON {
		fmt.Fprintf(a.out, "%s, %s, tenant %s\n", plural.Of(len(collection.Docs), "document", "documents"),
			plural.Of(len(collection.Queries), "question", "questions"), tenant)
	}
	head := []string{"MODE"}
	for _, m := range eval.Measures() {
		head = append(head, strings.ToUpper(m.Name))
	}
	return printTable(a, all, head, func(s modeScore) []string {
		row := []string{s.Mode}
		for _, f := range s.Scores {
			row = append(row, fmt.Sprintf("%.4f (%.3f-%.3f)", f.Mean, f.Low, f.High))
		}
		return row
	})
}

// tenant is the one that the collection is ingested as.
func (c kbEvalCmd) tenant() (uuid.UUID, error) {
	if c.Tenant != "" {
		id, err := uuid.Parse(c.Tenant)
		if err != nil {
			err = coded{errors.New("--tenant: it is not a UUID"), exitUsage}
		}
		return id, err
	}
	abs, err := filepath.Abs(c.Dir)
	name := fmt.Sprintf("konstruct eval %s %t", abs, c.Whole)
	if o := c.chunking(); c.Join > 1 || c.First || o != nil {
		name += fmt.Sprintf(" %d %t %+v", c.Join, c.First, o)
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)), err
}

// evalPrefix is how the sources of a collection's documents begin.
const evalPrefix = "eval:"

// ingest ingests what is not there yet.
func (c kbEvalCmd) ingest(ctx context.Context, a *app, k *konstruct.Konstruct, agent *konstruct.Agent, tenant uuid.UUID,
	collection *eval.Collection) error {
	there := map[string]bool{}
	for after := uuid.Nil; ; {
		docs, err := k.Tenant(tenant).Documents().List(ctx, after, kb.MaxList)
		if err != nil {
			return err
		}
		for _, d := range docs {
			if !strings.HasPrefix(d.Source, evalPrefix) {
				return fmt.Errorf(
					"tenant %s has documents of its own: a collection is measured in a tenant that has none", tenant)
			}
			there[d.Filename], after = true, d.ID
		}
		if len(docs) < kb.MaxList {
			break
		}
	}
	tokens, err := embed.FindTokenizer(a.AssetsDir)
	if err != nil {
		return err
	}
	p := a.newProgress("ingesting", "documents", int64(len(collection.Docs)))
	defer p.done()
	var some []kb.PreparedDocument
	for i, d := range collection.Docs {
		if m := c.prepare(tokens, d); !there[d.ID] && len(m.Chunks) > 0 {
			some = append(some, m)
		}
		if len(some) < embedBatch && i+1 < len(collection.Docs) {
			continue
		}
		if err := agent.EmbedAndStore(ctx, some); err != nil {
			return err
		}
		some = nil
		p.set(int64(i+1), int64(len(collection.Docs)), int64(i+1))
	}
	switch docs, err := k.Tenant(tenant).Documents().List(ctx, uuid.Nil, 1); {
	case err != nil:
		return err
	case len(docs) == 0:
		return fmt.Errorf("collection: %w: none of its documents has a passage", eval.ErrNothing)
	}
	return nil
}

// embedBatch is how many documents are embedded at once.
const embedBatch = 32

// prepare is a document cut as every document is, or whole; one that says nothing has no passages.
func (c kbEvalCmd) prepare(tokens *embed.Tokenizer, d eval.Doc) kb.PreparedDocument {
	m := kb.PreparedDocument{Source: evalPrefix + d.ID, Filename: d.ID, ContentType: "text/plain", Title: d.Title,
		Text: d.Text}
	switch whole := strings.TrimSpace(d.Title + " " + d.Text); {
	case whole == "":
	case c.Whole || strings.TrimSpace(d.Text) == "":
		m.Chunks = []chunk.Chunk{{Content: whole, Embed: whole}}
	default:
		doc := extract.Document{Title: d.Title, Text: d.Text,
			Blocks: []extract.Block{{Kind: extract.Paragraph, Text: d.Text, End: len(d.Text)}}}
		chunk.SplitWith(&doc, tokens, *cmp.Or(c.chunking(), &chunk.Options{}), func(k chunk.Chunk) bool {
			if c.First {
				k.Pieces = nil
			}
			m.Chunks = append(m.Chunks, k)
			return true
		})
	}
	return m
}

// run asks each question for the hundred best documents.
func (c kbEvalCmd) run(ctx context.Context, a *app, agent *konstruct.Agent, collection *eval.Collection,
	mode string) (eval.Run, error) {
	p := a.newProgress("asking: "+mode, "questions", int64(len(collection.Queries)))
	defer p.done()
	run := eval.Run{}
	for i, q := range collection.Queries {
		question := konstruct.SearchRequest{Text: q.Text, Operators: new(bool),
			TopK: search.MaxHits, Mode: search.Mode(mode),
			PerDocument: true, Duplicates: true} // each document is judged by itself
		if mode == "reranked" {
			question.Mode, question.Rerank = search.Hybrid, true
		}
		r, err := agent.SearchWith(ctx, question)
		if err != nil {
			return nil, fmt.Errorf("question %s: %w", q.ID, err)
		}
		var ranked []eval.Ranked
		for _, h := range r.Hits {
			ranked = append(ranked, eval.Ranked{Doc: h.Filename, Score: h.Score})
		}
		run[q.ID] = eval.Order(ranked)
		p.set(int64(i+1), int64(len(collection.Queries)), int64(i+1))
	}
	return run, nil
}

func (c kbEvalCmd) write(collection *eval.Collection, run eval.Run, mode string) error {
	if err := os.MkdirAll(c.Runs, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(c.Runs, mode+".trec"))
	if err != nil {
		return err
	}
	return errors.Join(eval.WriteTREC(f, collection, run, "konstruct-"+mode), f.Close())
}
