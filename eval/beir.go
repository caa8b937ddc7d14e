// Package eval measures search quality: it reads collections with judged queries in BEIR's layout, and computes the
// measures of trec_eval. It is pure and knows no database.
package eval

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Doc is a document of a collection.
type Doc struct {
	ID    string `json:"_id"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// Query is a query of a collection.
type Query struct {
	ID   string `json:"_id"`
	Text string `json:"text"`
}

// Collection is documents, queries, and judgements: how well each document answers each query.
type Collection struct {
	Docs    []Doc
	Queries []Query                   // those that somebody judged answers of
	Judged  map[string]map[string]int // by question and document; above 0 is an answer
	// Unanswered are the queries that no search can answer.
	Unanswered []string
}

// Join joins each n documents that follow each other into one, which answers what any of them does.
func (c *Collection) Join(n int) {
	if n < 2 {
		return
	}
	into := map[string]string{}
	var joined []Doc
	for some := range slices.Chunk(c.Docs, n) {
		var texts []string
		for _, d := range some {
			into[d.ID] = some[0].ID
			texts = append(texts, strings.TrimSpace(d.Title+"\n\n"+d.Text))
		}
		joined = append(joined, Doc{ID: some[0].ID, Text: strings.Join(texts, "\n\n")})
	}
	c.Docs = joined
	for question, judged := range c.Judged {
		all := map[string]int{}
		for doc, score := range judged {
			to := cmp.Or(into[doc], doc)
			all[to] = max(all[to], score)
		}
		c.Judged[question] = all
	}
}

// ErrNothing means that a collection can't measure anything: every score would be zero whatever a search returned.
var ErrNothing = errors.New("nothing can be measured by it")

// Unanswerable returns the queries that no search can answer, because no document among their answers exists. They
// count as 0 in each mean, as in trec_eval. If no query can be answered, the error is ErrNothing.
func (c *Collection) Unanswerable(there func(doc string) bool) (ids []string, err error) {
	for _, q := range c.Queries {
		can := false
		for doc, score := range c.Judged[q.ID] {
			can = can || score > 0 && there(doc)
		}
		if !can {
			ids = append(ids, q.ID)
		}
	}
	if len(ids) == len(c.Queries) {
		err = fmt.Errorf("%w: none of its %d questions has an answer, with a score above 0, among the documents",
			ErrNothing, len(ids))
	}
	return ids, err
}

// text reports whether a document has text.
func (d *Doc) text() bool { return strings.TrimSpace(d.Title+d.Text) != "" }

// check returns an error for a collection that can't measure anything.
func (c *Collection) check() error {
	some := map[string]bool{}
	for i := range c.Docs {
		if c.Docs[i].text() {
			some[c.Docs[i].ID] = true
		}
	}
	if len(some) == 0 {
		return fmt.Errorf("%w: each of its %d documents is empty", ErrNothing, len(c.Docs))
	}
	var err error
	c.Unanswered, err = c.Unanswerable(func(doc string) bool { return some[doc] })
	return err
}

// Limits on a collection.
const (
	maxDocs = 10_000_000
	maxLine = 16 << 20
)

// Read reads a collection in BEIR's layout (https://github.com/beir-cellar/beir): corpus.jsonl, queries.jsonl and
// qrels/SPLIT.tsv.
func Read(dir, split string) (c Collection, err error) {
	if split == "" || split != filepath.Base(split) {
		return c,
			fmt.Errorf("collection: %.60q is the name of no split: it is one of the files in qrels/, without .tsv",
				split)
	}
	if c.Docs, err = lines[Doc](filepath.Join(dir, "corpus.jsonl"), func(d Doc) string { return d.ID }); err != nil {
		return c, err
	}
	all, err := lines[Query](filepath.Join(dir, "queries.jsonl"), func(q Query) string { return q.ID })
	if err != nil {
		return c, err
	}
	if c.Judged, err = readJudgements(filepath.Join(dir, "qrels", split+".tsv")); err != nil {
		return c, err
	}
	for _, q := range all {
		if len(c.Judged[q.ID]) > 0 {
			c.Queries = append(c.Queries, q)
		}
	}
	if len(c.Docs) == 0 || len(c.Queries) == 0 {
		return c, fmt.Errorf("collection: %s has %d documents and %d judged questions: %w", dir, len(c.Docs),
			len(c.Queries), ErrNothing)
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("collection: %s: %w", dir, err)
	}
	return c, nil
}

func lines[T any](path string, id func(T) string) (all []T, err error) {
	seen := map[string]bool{}
	err = eachLine(path, func(n int, line []byte) error {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return err
		}
		switch name := id(v); {
		case name == "" || strings.ContainsAny(name, " \t"):
			return fmt.Errorf("the _id %.60q is empty or has white space", name)
		case seen[name]:
			return fmt.Errorf("the _id %.60q is there twice", name)
		case len(all) == maxDocs:
			return fmt.Errorf("there are more than %d", maxDocs)
		default:
			seen[name] = true
		}
		all = append(all, v)
		return nil
	})
	return all, err
}

func readJudgements(path string) (map[string]map[string]int, error) {
	all := map[string]map[string]int{}
	err := eachLine(path, func(n int, line []byte) error {
		f := strings.Fields(string(line))
		if n == 1 && len(f) > 0 && f[0] == "query-id" {
			return nil
		}
		if len(f) != 3 {
			return errors.New("it is not a question, a document and a score")
		}
		score, err := strconv.Atoi(f[2])
		if err != nil {
			return err
		}
		if all[f[0]] == nil {
			all[f[0]] = map[string]int{}
		}
		all[f[0]][f[1]] = score
		return nil
	})
	return all, err
}

// eachLine calls fn with each line of a file that is not empty, and its number from 1.
func eachLine(path string, fn func(n int, line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("collection: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		if len(s.Bytes()) == 0 {
			continue
		}
		if err := fn(n, s.Bytes()); err != nil {
			return fmt.Errorf("collection: %s:%d: %w", path, n, err)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("collection: %s: %w", path, err)
	}
	return nil
}

// WriteTREC writes a run in the format of trec_eval: query, Q0, document, rank, score, tag.
func WriteTREC(w io.Writer, c *Collection, run Run, tag string) error {
	out := bufio.NewWriter(w)
	for _, q := range c.Queries {
		for i, r := range run[q.ID] {
			fmt.Fprintf(out, "%s Q0 %s %d %s %s\n", q.ID, r.Doc, i+1, strconv.FormatFloat(r.Score, 'g', -1, 32), tag)
		}
	}
	return out.Flush()
}
