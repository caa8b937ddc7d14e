package search

import (
	"fmt"
	"strconv"
	"strings"

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
	with      []string
	args      []any
	halves    [][]float32 // of what it found
	spelled   []Correction
}

func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	return "$" + strconv.Itoa(len(s.args))
}

// column is a condition on a table's tenant.
func (s *statement) column(table string) string {
	if s.plan.Tier == Indexed {
		return table + ".tenant_id = '" + s.tenant.String() + "'::uuid" // which needs no quoting
	}
	if len(s.args) == 0 {
		s.arg(s.tenant)
	}
	return table + ".tenant_id = $1::uuid"
}

func (s *statement) cte(name, format string, args ...any) {
	s.with = append(s.with, name+" AS MATERIALIZED ("+fmt.Sprintf(format, args...)+")")
}

// What a fused rank counts for: 1/(rrf+rank), by Cormack, Clarke and Büttcher, 2009.
const rrfK = 60

// BM25, in the form of Lucene 8 and later (Kamphuis and others, 2020). K was measured: docs/benchmarks.md.
const (
	bm25K = 1.5
	bm25B = 0.75
)

// build makes the whole statement. It yields a row for each hit, the best first, and one more where there are more.
func (s *statement) build() (string, error) {
	s.column("") // so that the tenant is the first argument
	var conditions []string
	if s.documents == nil {
		var err error
		if conditions, err = conditionClauses(s.q.Where, s.arg); err != nil {
			return "", err
		}
	}
	restricted := s.documents != nil || len(conditions) > 0
	met := strings.Join(conditions, " AND ")
	switch {
	case s.documents != nil:
		found := make([]string, len(s.documents))
		for i, id := range s.documents {
			found[i] = id.String()
		}
		s.cte("documents", "SELECT o.id AS document_id FROM unnest(%s::uuid[]) o (id)", s.arg(found))
	case len(conditions) > 0:
		s.cte("documents",
			`SELECT d.id AS document_id FROM kb_documents d LEFT JOIN kb_sources s ON %s AND s.document_id = d.id
			WHERE %s AND %s`, s.column("s"), s.column("d"), met)
	}
	if s.q.Mode != Lexical {
		s.near(restricted, met)
	}
	w := parseQuery(s.q.Text)
	if s.q.Mode != Semantic {
		in := ""
		if restricted { // each document's passages looked up by themselves
			in = fmt.Sprintf(" AND t.chunk_id IN (SELECT p.chunk_id FROM documents o, LATERAL (SELECT p.chunk_id "+
				"FROM kb_points p WHERE %s AND p.document_id = o.document_id OFFSET 0) p)", s.column("p"))
		}
		s.words(w, in)
	}
	switch s.q.Mode {
	case Semantic:
		// Those that are near by half the precision are put in order by the whole.
		distance := "n.distance"
		if s.q.Model == "" {
			distance = fmt.Sprintf("(c.embedding <=> (SELECT %s::real[]::vector))", s.arg(s.q.Vector))
		}
		s.cte("scored",
			`SELECT n.chunk_id, 1 - %[1]s AS score, 1 - %[1]s AS similarity, NULL::float8 AS words, c.document_id,
			c.chunk_index, c.content FROM near n, %[2]s`, distance, s.document("kb_chunks c", "c.id = n.chunk_id"))
	case Lexical:
		s.cte("scored", "SELECT w.chunk_id, w.words AS score, NULL::float8 AS similarity, w.words FROM worded w")
	case Hybrid:
		s.cte("scored",
			`SELECT chunk_id, coalesce(1.0::float8 / (%[1]d + n.rank), 0) + coalesce(1.0::float8 / (%[1]d + w.rank), 0) AS score, n.similarity, w.words
		    FROM (SELECT chunk_id, 1 - distance AS similarity, row_number() OVER (ORDER BY distance, chunk_id) AS rank FROM near) n
		    FULL JOIN (SELECT chunk_id, words, row_number() OVER (ORDER BY words DESC, chunk_id) AS rank FROM worded) w USING (chunk_id)`, rrfK)
	}
	return "WITH " + strings.Join(s.with, ",\n") + s.hits(w), nil
}

// near lists the passages nearest to the vector. Where conditions leave few documents their passages alone are
// compared, each document's looked up by itself; the index's candidates are verified against the conditions as they
// come.
func (s *statement) near(conditions bool, met string) {
	v := s.arg(s.q.Vector)
	// read once, and not for each row
	vector := func(as string) string { return "(SELECT " + v + "::real[]::vector" + as + ")" }
	from, document, where := "kb_points p", "p.document_id", s.column("p")+" AND p.half IS NOT NULL"
	distance := "p.half <=> " + vector("::halfvec(384)")
	if s.q.Model != "" {
		from, document = fmt.Sprintf("kb_vectors p JOIN kb_chunks pc ON %s AND pc.id = p.chunk_id", s.column("pc")),
			"pc.document_id"
		where, distance = s.column("p")+" AND p.model = "+tenantdb.Literal(s.q.Model), "p.embedding <=> "+vector("")
	}
	order := "distance, chunk_id"
	switch {
	case s.plan.Tier == Indexed:
		if order = "distance"; s.q.Model != "" {
			distance = fmt.Sprintf("p.embedding::halfvec(%d) <=> %s", dimensionsOf(s.q),
				vector(fmt.Sprintf("::halfvec(%d)", dimensionsOf(s.q))))
		}
		if !conditions {
			break
		}
		where += fmt.Sprintf(" AND coalesce((SELECT %s FROM kb_documents d LEFT JOIN kb_sources s ON %s AND "+
			"s.document_id = d.id WHERE %s AND d.id = %s), false)", met, s.column("s"), s.column("d"), document)
	case conditions && s.q.Model == "":
		from = fmt.Sprintf("documents, LATERAL (SELECT p.chunk_id, p.half FROM kb_points p WHERE %s AND "+
			"p.document_id = documents.document_id OFFSET 0) p", where)
		where = "p.half IS NOT NULL"
	case conditions:
		where += " AND " + document + " IN (SELECT document_id FROM documents)"
	}
	if s.plan.Tier == Exact {
		distance = "(" + distance + ") + 0" // which no index is made for
	}
	s.cte("near", "SELECT p.chunk_id, %s AS distance FROM %s WHERE %s ORDER BY %s LIMIT %s::integer", distance, from,
		where, order, s.arg(s.plan.Depth))
}

// words lists the passages whose words fit best, by BM25 with the tenant's own frequencies.
func (s *statement) words(w lexicalQuery, in string) {
	languages := s.arg(s.st.reads())
	terms := func(text string) string {
		return fmt.Sprintf(
			"SELECT w.lexeme COLLATE \"C\" AS term FROM unnest(%s::text[]) l, unnest(kb_words(l, %s)) w GROUP BY 1",
			languages, s.arg(text))
	}
	others := []string{}
	for _, sp := range s.spelled {
		others = append(others, sp.To...)
	}
	s.cte("asked", "%s UNION SELECT unnest(%s::text[]) COLLATE \"C\"", terms(w.ranked), s.arg(others))
	postings := fmt.Sprintf(`SELECT t.term, t.chunk_id, t.times::integer AS times, t.length FROM kb_terms t
		WHERE %s AND t.term = ANY (ARRAY(SELECT term FROM asked))%s`, s.column("t"), in)
	for _, p := range w.prefixes {
		name := s.arg(p)
		postings += fmt.Sprintf(" UNION ALL SELECT (%[1]s::text || '*') COLLATE \"C\", t.chunk_id, "+
			"sum(t.times)::integer, max(t.length) FROM kb_terms t WHERE %[2]s AND t.term >= %[1]s::text COLLATE "+
			"\"C\" AND t.term < %[3]s::text COLLATE \"C\"%[4]s GROUP BY t.chunk_id",
			name, s.column("t"), s.arg(snippetAfter(p)), in)
	}
	s.cte("postings", "%s", postings)
	s.cte("weights",
		`SELECT term, ln(1 + (greatest(%s::integer, count(*)) - count(*) + 0.5) / (count(*) + 0.5))::float8 AS weight
		FROM postings GROUP BY term`, s.arg(s.st.chunks))
	having := ""
	if w.phrases != "" { // a passage that has the phrases has all their words, in whichever language it is read
		s.cte("needed", "%s", terms(w.phrases))
		having = fmt.Sprintf(" HAVING count(*) FILTER (WHERE p.term = ANY (ARRAY(SELECT term FROM needed))) >= "+
			"(SELECT coalesce(min(n), 0) FROM (SELECT count(*) AS n FROM unnest(%s::text[]) l, unnest(kb_words(l, "+
			"%s)) GROUP BY l) n)", languages, s.arg(w.phrases))
	}
	depth := s.plan.Depth
	if w.required != "" {
		depth = mustDepth
	}
	s.cte("worded",
		`SELECT p.chunk_id, sum(w.weight * p.times * %[1]v / (p.times + %[2]v * (%[3]v + %[4]v * p.length / %[5]s::float8)))::float8 AS words
	    FROM postings p JOIN weights w USING (term) GROUP BY p.chunk_id%[6]s ORDER BY 2 DESC, 1 LIMIT %[7]s::integer`,
		bm25K+1, bm25K, 1-bm25B, bm25B, s.arg(s.st.average), having, s.arg(depth))
}

// mustDepth is how many passages are read at most to see whether they meet what must and must not stand in them.
const mustDepth = 2000

// hits joins what was found to what is said of it.
func (s *statement) hits(w lexicalQuery) string {
	conditions := []string{"true"}
	if s.q.Mode != Lexical { // who asks by another model's vector than serves is told so
		conditions[0] = fmt.Sprintf("%s = coalesce((SELECT m.model FROM kb_models m WHERE %s AND m.serving), '')",
			s.arg(s.q.Model), s.column("m"))
	}
	if s.q.Mode != Semantic && w.required != "" {
		conditions = append(conditions, fmt.Sprintf("kb_words(coalesce(s.language, 'simple'), c.content) @@ "+
			"websearch_to_tsquery(coalesce(s.language, 'simple')::regconfig, %s)", s.arg(w.required)))
	}
	first, page, from := "1", "true", "scored"
	if s.q.PerDocument {
		first, page = "row_number() OVER (PARTITION BY c.document_id ORDER BY f.score DESC, f.chunk_id)", "first = 1"
	}
	if s.cursor != nil {
		page += fmt.Sprintf(" AND (-score, chunk_id) > (%s::float8, %s::uuid)", s.arg(-s.cursor.score),
			s.arg(s.cursor.chunk))
	}
	most := s.arg(s.wanted() + 1)
	if len(conditions) == 1 && !s.q.PerDocument { // nothing of a document decides: only what is returned is joined
		from, page = fmt.Sprintf("(SELECT * FROM scored WHERE %s ORDER BY score DESC, chunk_id LIMIT %s::integer)",
			page, most), "true"
	}
	half, joined := "NULL::real[]", ""
	if s.q.Diversity > 0 {
		half, joined = "pt.half::real[]", ", "+
			s.document("kb_points pt", "pt.document_id = h.document_id AND pt.chunk_id = h.chunk_id")
	}
	chunk := s.document("kb_chunks c", "c.id = f.chunk_id")
	if s.q.Mode == Semantic { // which has looked them up for their vectors
		chunk = "LATERAL (SELECT f.document_id, f.chunk_index, f.content) c"
	}
	return fmt.Sprintf(`
SELECT h.chunk_id, h.chunk_index, coalesce(p.headings, '{}'), coalesce(p.page, 0), coalesce(p.start_byte, 0), coalesce(p.end_byte, 0), h.content,
       h.score, h.similarity, h.words, sha256(convert_to(h.content, 'UTF8')), h.document_id, h.version, h.filename, h.title, h.source, h.recipe, %[1]s
  FROM (SELECT * FROM (
          SELECT f.chunk_id, f.score, f.similarity, f.words, c.document_id, coalesce(c.chunk_index, 0) AS chunk_index, c.content, coalesce(s.version, 1) AS version, coalesce(d.filename, '') AS filename, coalesce(s.title, '') AS title,
                 coalesce(s.source, d.source_url, '') AS source, coalesce(s.recipe, '') AS recipe, %[2]s AS first
            FROM %[11]s f, %[3]s, %[4]s LEFT JOIN %[5]s ON true
           WHERE %[6]s) f WHERE %[7]s ORDER BY score DESC, chunk_id LIMIT %[8]s::integer) h
  LEFT JOIN %[9]s ON true%[10]s
 ORDER BY h.score DESC, h.chunk_id`, half, first, chunk, s.document("kb_documents d", "d.id = c.document_id"),
		s.document("kb_sources s", "s.document_id = c.document_id"),
		strings.Join(conditions, " AND "), page, most, s.document("kb_passages p", "p.chunk_id = h.chunk_id"),
		joined, from)
}

// document looks one row up for each of what stands before it: whatever the planner believes of how many there are,
// that is what is best for as few as a search joins.
func (s *statement) document(table, on string) string {
	_, alias, _ := strings.Cut(table, " ")
	return fmt.Sprintf("LATERAL (SELECT * FROM %s WHERE %s AND %s OFFSET 0) %s", table, s.column(alias), on, alias)
}

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
