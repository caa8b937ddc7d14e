package search

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"text/template"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/tenantdb"
)

// statement is the SQL of one search. Where the tenant's own index is searched its id is a literal, so that the planner
// sees that this index will do; else it is an argument, and the same text does for all tenants. Either way row
// security's own predicate is proven once and not per row. Which documents may be seen is row security's business
// alone.
type statement struct {
	tenant uuid.UUID
	q      *Query
	plan   Plan
	st     *tenantState
	cursor *cursor
	// documents are all that meet the conditions, where they have been found already; nil where they have not.
	documents []uuid.UUID
	args      []any
	halves    [][]float32 // of what it found
	spelled   []Correction
}

func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	return "$" + strconv.Itoa(len(s.args))
}

// tenantIs is the condition that a table's row is the tenant's.
func (s *statement) tenantIs(table string) string {
	if s.plan.Tier == Indexed {
		return table + ".tenant_id = '" + s.tenant.String() + "'::uuid" // which needs no quoting
	}
	return table + ".tenant_id = $1::uuid"
}

// What a fused rank counts for: 1/(rrf+rank), by Cormack, Clarke and Büttcher, 2009.
const rrfK = 60

// BM25, in the form of Lucene 8 and later (Kamphuis and others, 2020). K was measured: docs/benchmarks.md.
const (
	bm25K = 1.5
	bm25B = 0.75
)

//go:embed sql/search.sql
var searchSQL string

// searchTemplate is the statement of every search; sql/search.sql says what its parts are.
var searchTemplate = template.Must(template.New("").Parse(searchSQL))

// build makes the whole statement. It yields a row for each hit, the best first, and one more where there are more.
func (s *statement) build() (string, error) {
	s.args = nil
	if s.plan.Tier != Indexed {
		s.arg(s.tenant) // $1, which tenantIs names
	}
	d := s.templateData()
	if s.documents == nil {
		clauses, err := conditionClauses(s.q.Where, s.arg)
		if err != nil {
			return "", err
		}
		d.Conditions = strings.Join(clauses, " AND ")
	}
	d.Restricted = d.Found || d.Conditions != ""
	var b strings.Builder
	b.Grow(4 << 10)
	if err := searchTemplate.ExecuteTemplate(&b, "search", d); err != nil {
		return "", fmt.Errorf("search: build the statement: %w", err)
	}
	return b.String(), nil
}

// templateData is what sql/search.sql asks of a statement.
type templateData struct {
	*statement
	Conditions string // over kb_documents d and kb_sources s, joined by AND; empty without

	Semantic, Lexical  bool // else both
	Exact, Indexed     bool
	Found, Restricted  bool // whether the documents are known; whether not all are searched
	Model              bool // whether it is another model than the first
	Phrases, Required  bool // of the text
	PerDocument, Early bool // Early: the hits are chosen before their documents are looked up
	Diverse, Cursor    bool

	Tenant       map[string]string // by a table's name, the condition that its row is the tenant's
	ModelLiteral string
	Dimensions   int
	RRF          int
	BM25         bm25

	words        lexicalQuery
	placeholders []placeholder // of the arguments used so far
}

type placeholder struct{ name, text string }

func (s *statement) templateData() *templateData {
	d := &templateData{statement: s, words: parseQuery(s.q.Text), Semantic: s.q.Mode == Semantic,
		Lexical: s.q.Mode == Lexical, Exact: s.plan.Tier == Exact, Indexed: s.plan.Tier == Indexed,
		Found: s.documents != nil, Model: s.q.Model != "", PerDocument: s.q.PerDocument, Diverse: s.q.Diversity > 0,
		Cursor: s.cursor != nil, Tenant: map[string]string{}, ModelLiteral: tenantdb.Literal(s.q.Model),
		Dimensions: dimensionsOf(s.q), RRF: rrfK, BM25: bm25{K: bm25K, K1: bm25K + 1, B: bm25B, B1: 1 - bm25B}}
	d.Phrases, d.Required = d.words.phrases != "", !d.Semantic && d.words.required != ""
	d.Early = !d.Required && !d.PerDocument
	for _, table := range []string{"d", "s", "p", "pc", "t", "m"} {
		d.Tenant[table] = s.tenantIs(table)
	}
	return d
}

// Row looks up one row for each row before it.
func (d *templateData) Row(table, on string) string {
	_, alias, _ := strings.Cut(table, " ")
	return fmt.Sprintf("LATERAL (SELECT * FROM %s WHERE %s AND %s OFFSET 0) %s", table, d.tenantIs(alias), on, alias)
}

// Arg is the placeholder of an argument.
func (d *templateData) Arg(name string) (string, error) {
	for _, p := range d.placeholders {
		if p.name == name {
			return p.text, nil
		}
	}
	v, err := d.value(name)
	if err != nil {
		return "", err
	}
	p := d.arg(v)
	d.placeholders = append(d.placeholders, placeholder{name, p})
	return p, nil
}

// Prefixes are the ranges of words that begin alike: from the first on, before the other.
func (d *templateData) Prefixes() (all []struct{ From, To string }) {
	for _, p := range d.words.prefixes {
		all = append(all, struct{ From, To string }{d.arg(p), d.arg(snippetAfter(p))})
	}
	return all
}

func (d *templateData) value(name string) (any, error) {
	switch name {
	case "found":
		found := make([]string, len(d.documents))
		for i, id := range d.documents {
			found[i] = id.String()
		}
		return found, nil
	case "vector":
		return d.q.Vector, nil
	case "model":
		return d.q.Model, nil
	case "depth":
		return d.plan.Depth, nil
	case "wordsDepth":
		if d.words.required != "" {
			return mustDepth, nil
		}
		return d.plan.Depth, nil
	case "languages":
		return d.st.reads(), nil
	case "ranked":
		return d.words.ranked, nil
	case "phrases":
		return d.words.phrases, nil
	case "required":
		return d.words.required, nil
	case "corrections":
		others := []string{}
		for _, c := range d.spelled {
			others = append(others, c.To...)
		}
		return others, nil
	case "chunks":
		return d.st.chunks, nil
	case "average":
		return d.st.average, nil
	case "most":
		return d.wanted() + 1, nil
	case "cursorScore":
		return -d.cursor.score, nil
	case "cursorChunk":
		return d.cursor.chunk, nil
	}
	return nil, fmt.Errorf("there is no argument %q", name)
}

// bm25 are its parameters, as its formula has them.
type bm25 struct{ K, K1, B, B1 float64 }

// mustDepth is how many passages are read at most to see whether they meet what must and must not stand in them.
const mustDepth = 2000

// kept reports that the statement's text is one of few.
func (s *statement) kept() bool {
	return len(s.q.Where) == 0 && len(parseQuery(s.q.Text).prefixes) <= 2
}

// wanted is how many passages the statement is to find: those that hits are chosen from.
func (s *statement) wanted() int {
	if s.q.Diversity > 0 {
		return min(MaxHits, s.q.K*diversityWeight)
	}
	return s.q.K
}

// diversityWeight is how many candidates there are for each hit where hits are to differ.
const diversityWeight = 5
