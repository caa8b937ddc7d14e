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
	details   []hitDetail // of what it found
	words     []*Word
	hits      []uuid.UUID // whose words are explained
	twins     int         // rows to read beyond those wanted, since equal passages take one place
	few       int         // passages are rather compared one by one
}

// hitDetail is what else is known of a row.
type hitDetail struct {
	half     []float32   // its vector, where hits are to differ
	twins    []uuid.UUID // chunks with the same text
	repeated bool        // one of them comes before it
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

// fusion says what similarity and words count in a hybrid search: a convex combination of scores, which serves better
// than one of ranks (Bruch, Gai and Ingber, 2023). The numbers were measured on several collections:
// docs/benchmarks.md.
type fusion struct {
	Similarity, Words float64 // their weights
	Share             float64 // of what words could score at most: a best score below counts less
	Least             float64 // similarity that words are put on the scale of
}

var hybridFusion = fusion{Similarity: 0.55, Words: 0.45, Share: 0.1, Least: 0.1}

// phraseBoost is how many times as much the words of a passage count that has a natural question's quotation.
const phraseBoost = 1.5

// BM25, in the form of Lucene 8 and later (Kamphuis and others, 2020). K was measured: docs/benchmarks.md.
const (
	bm25K = 1.2
	bm25B = 0.75
)

//go:embed sql/search.sql
var searchSQL string

// searchTemplate is the statement of every search; sql/search.sql says what its parts are.
var searchTemplate = template.Must(template.New("").Parse(searchSQL))

// build makes the whole statement. It yields a row for each hit, the best first, and one more where there are more.
func (s *statement) build() (string, error) { return s.execute("search") }

// execute makes a statement of sql/search.sql by its name.
func (s *statement) execute(name string) (string, error) {
	s.args = nil
	if s.plan.Tier != Indexed {
		s.arg(s.tenant) // $1, which tenantIs names
	}
	d := s.templateData()
	if s.documents == nil {
		clauses, err := s.q.conditions(s.arg)
		if err != nil {
			return "", err
		}
		d.Conditions = strings.Join(clauses, " AND ")
	}
	d.Late = !d.Required && s.plan.Matching > s.few && s.plan.Matching*lateShare >= s.st.chunks
	d.Own = d.Indexed && strings.HasPrefix(s.plan.Index, collectionIndexes)
	d.Listed = !d.Indexed && !d.Lexical || !d.Late && !d.Semantic
	d.Restricted = d.Found || d.Collected || d.Conditions != ""
	var b strings.Builder
	b.Grow(4 << 10)
	if err := searchTemplate.ExecuteTemplate(&b, name, d); err != nil {
		return "", fmt.Errorf("search: build the statement: %w", err)
	}
	return b.String(), nil
}

// templateData is what sql/search.sql asks of a statement.
type templateData struct {
	*statement
	Conditions string // over kb_documents d and kb_sources s, joined by AND; empty without
	Collected  bool   // whether collections are named: their entries are kb_collection_documents cd

	Semantic, Lexical, Hybrid bool
	Exact, Indexed            bool
	Found, Restricted, Late   bool // whether the documents are known; not all are searched; words are restricted late
	Listed, Own               bool // the documents are listed; the index is the collection's own
	Model                     bool // whether it is another model than the first
	Pieces                    bool // whether some chunks have pieces of their own
	Must, Required            bool // words, and phrases, that must be there, or not
	Preferred                 bool // phrases of a natural question
	Merged                    bool // whether a word has several terms
	PerDocument, Early        bool // Early: the hits are chosen before their documents are looked up
	Diverse, Cursor           bool
	Merge                     bool // whether equal passages take one place

	Tenant       map[string]string // by a table's name, the condition that its row is the tenant's
	ModelLiteral string
	Dimensions   int
	Fusion       fusion
	PhraseBoost  float64
	BM25         bm25

	text         lexicalQuery
	counted      []*Word
	wordArgs     map[string]any // of those that count
	placeholders []placeholder  // of the arguments used so far
}

type placeholder struct{ name, text string }

func (s *statement) templateData() *templateData {
	d := &templateData{statement: s, text: s.q.read(), Semantic: s.q.Mode == Semantic, Lexical: s.q.Mode == Lexical,
		Hybrid: s.q.Mode == Hybrid, Exact: s.plan.Tier == Exact, Indexed: s.plan.Tier == Indexed,
		Found: s.documents != nil, Collected: len(s.q.Collections) > 0, Model: s.q.Model != "",
		Pieces:      s.st != nil && s.st.pieces > 0,
		PerDocument: s.q.PerDocument, Diverse: s.q.Diversity > 0,
		Cursor: s.cursor != nil, Tenant: map[string]string{}, ModelLiteral: tenantdb.Literal(s.q.Model),
		Dimensions: dimensionsOf(s.q), Fusion: s.q.fusion(), PhraseBoost: phraseBoost,
		BM25: bm25{K: bm25K, K1: bm25K + 1, B: bm25B, B1: 1 - bm25B}}
	d.Required = !d.Semantic && d.text.required()
	d.Preferred = d.Hybrid && !d.text.strict && len(d.text.phrases) > 0
	d.Early, d.Merge = !d.Required && !d.PerDocument, !s.q.Duplicates
	d.counted = s.countedWords()
	for _, w := range d.counted {
		d.Merged = d.Merged || len(w.found) > 1 || w.begin != "" && len(w.found) > 0
		d.Must = d.Must || w.must
	}
	d.wordArgs = wordArgs(d.counted)
	for _, table := range []string{"c", "d", "e", "o", "s", "p", "pc", "t", "m", "v", "cd", "lc"} {
		d.Tenant[table] = s.tenantIs(table)
	}
	return d
}

// countedWords are the words that count: sql/search.sql numbers them from 1.
func (s *statement) countedWords() (counted []*Word) {
	for _, w := range s.words {
		if w.Weight > 0 && (len(w.found) > 0 || w.begin != "") {
			counted = append(counted, w)
		}
	}
	return counted
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

// prefix is a range of terms that begin alike: from the first on, before the other.
type prefix struct {
	Word     int // its place among those that count
	From, To string
}

// Prefixes are the ranges of terms that words begin.
func (d *templateData) Prefixes() (all []prefix) {
	for i, w := range d.counted {
		if w.begin != "" {
			all = append(all, prefix{i + 1, d.arg(w.begin), d.arg(textAfter(w.begin))})
		}
	}
	return all
}

func (d *templateData) value(name string) (any, error) {
	switch name {
	case "found":
		return uuidTexts(d.documents), nil
	case "collections":
		return uuidTexts(d.q.Collections), nil
	case "vector":
		return d.q.Vector, nil
	case "model":
		return d.q.Model, nil
	case "depth":
		return d.plan.Depth, nil
	case "wordsDepth":
		switch {
		case d.Required:
			return mustDepth, nil
		case d.Hybrid:
			return wordsDepth, nil
		}
		return d.plan.Depth, nil
	case "phrases":
		return append([]string{}, d.text.phrases...), nil
	case "never":
		return append([]string{}, d.text.never...), nil
	case "words", "terms", "factors", "weights", "must":
		return d.wordArgs[name], nil
	case "hits":
		return uuidTexts(d.hits), nil
	case "chunks":
		return d.st.chunks, nil
	case "average":
		return d.st.average, nil
	case "most":
		return d.wanted() + 1 + d.twins, nil
	case "cursorScore":
		return -d.cursor.score, nil
	case "cursorChunk":
		return d.cursor.chunk, nil
	}
	return nil, fmt.Errorf("there is no argument %q", name)
}

func uuidTexts(ids []uuid.UUID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return texts
}

// wordArgs are the words that count, as arguments: weights by word, and word, term and factor of each term.
func wordArgs(counted []*Word) map[string]any {
	words, terms, factors, weights, must := []int32{}, []string{}, []float64{}, []float64{}, []int32{}
	for i, w := range counted {
		weights = append(weights, w.Weight)
		if w.must {
			must = append(must, int32(i+1))
		}
		for _, t := range w.found {
			words, terms, factors = append(words, int32(i+1)), append(terms, t.term), append(factors, t.factor)
		}
	}
	return map[string]any{"words": words, "terms": terms, "factors": factors, "weights": weights, "must": must}
}

// lateShare is the part of a tenant's passages from which on words are ranked among all, and the best of them compared
// with what restricts the search.
const lateShare = 16

// wordsDepth is how many passages that only their words bring a hybrid search looks at: each one's vector is read.
const wordsDepth = 50

// bm25 are its parameters, as its formula has them.
type bm25 struct{ K, K1, B, B1 float64 }

// mustDepth is how many passages are read at most to see whether they meet what must and must not stand in them.
const mustDepth = 2000

// kept reports that the statement's text is one of few.
func (s *statement) kept() bool {
	prefixes := 0
	for _, w := range s.words {
		if w.begin != "" {
			prefixes++
		}
	}
	return !s.q.conditional() && prefixes <= 2
}

// wanted is how many passages the statement is to find: those that hits are chosen from.
func (s *statement) wanted() int {
	if s.q.Diversity > 0 {
		return min(MaxHits, s.q.K*diversityWeight)
	}
	return s.q.K
}

// missing returns how many more rows to read where equal passages took the place of some, or none where there are no
// more.
func (s *statement) missing(rows []Hit) int {
	if s.q.Duplicates || len(rows) < s.wanted()+1+s.twins {
		return 0
	}
	if hits, _, _, more := mergeTwins(rows, s.details, s.wanted(), false); !more {
		return 4*(s.wanted()+1-len(hits)) + moreDepth
	}
	return 0
}

// diversityWeight is how many candidates there are for each hit where hits are to differ.
const diversityWeight = 5
