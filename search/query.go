package search

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// Mode says what a search goes by.
type Mode string

// The modes.
const (
	Semantic Mode = "semantic" // the direction of the question's vector
	Lexical  Mode = "lexical"  // BM25 over the question's words
	Hybrid   Mode = "hybrid"   // both, their scores fused
)

// Limits of one search.
const (
	MaxHits       = 100       // passages that one search returns at most
	MaxText       = 32 << 10  // bytes of a question's text
	MaxNeighbours = 10        // passages before and after a hit
	maxOperators  = 32        // phrases and words that must not stand there
	MaxWithin     = time.Hour // how long a search may be let go on
)

// Query says what is looked for.
type Query struct {
	Mode Mode
	// Text is read for its words. In lexical mode, and with Operators, "a phrase" must stand there, -word must not, and
	// begin* is any word that begins so; of the others each that is there counts. Else it is a natural question:
	// passages with a quotation of it are preferred, and hyphens and asterisks are nothing.
	Text string
	// Operators has a hybrid query read as a lexical one is, and Natural a lexical one as a natural question.
	Operators, Natural bool
	// Vector is the question's; not looked at when searching by words.
	Vector []float32
	// Model is whose vector it is, empty for the first; where another serves, a search returns a *ServingError.
	Model string
	K     int // how many passages at most
	// Collections are those that are searched, by their ids; none searches all of the tenant's documents.
	Collections []uuid.UUID
	// Where are conditions that a passage's document must all meet.
	Where []Condition
	// Filter is what it must meet beside them; nil is nothing.
	Filter *Filter
	// MinScore leaves out hits below it; nil leaves out none. The score is the mode's: see Hit.
	MinScore *float64
	// Diversity makes hits differ from each other, from 0 (not at all) to 1 (above all), by maximal marginal relevance
	// (Carbonell and Goldstein, 1998).
	Diversity float64
	// PerDocument returns the best passage of each document alone.
	PerDocument bool
	// Neighbours is how many passages before and after each hit come with it.
	Neighbours int
	// Weights are what similarity and words count in hybrid mode; nil is what served best on several collections.
	Weights *Weights
	// After continues where another search ended: its Found.Next.
	After string
	// Duplicates returns each of several equal passages; else they take one place, which names the others.
	Duplicates bool
	// Within is how long the database may work on it; 0 is as long as it takes. ErrSlow when it was not enough.
	Within time.Duration
}

// Weights are what similarity and words count, by their share in the sum.
type Weights struct {
	Semantic float64 `json:"semantic"`
	Lexical  float64 `json:"lexical"`
}

// fusion returns what similarity and words count in this query.
func (q *Query) fusion() fusion {
	f := hybridFusion
	if w := q.Weights; w != nil {
		f.Similarity, f.Words = w.Semantic/(w.Semantic+w.Lexical), w.Lexical/(w.Semantic+w.Lexical)
	}
	return f
}

// Hit is one passage that a search found.
type Hit struct {
	kb.Passage
	// Score is what hits are ordered by: the cosine similarity (-1 to 1) in semantic mode, BM25 (from 0) in lexical
	// mode. In hybrid mode it is 0.55 of the similarity, and 0.45 of the share that its words have of the best
	// passage's, on the scale of the best similarity.
	Score float64 `json:"score"`
	// Similarity and LexicalScore (BM25) are its parts, where the mode has them; without any word of the question, or
	// with few beside others, a passage has no LexicalScore.
	Similarity   *float64  `json:"similarity,omitempty"`
	LexicalScore *float64  `json:"words,omitempty"`
	SHA256       string    `json:"content_sha256"` // of the passage as it is stored
	DocumentID   uuid.UUID `json:"document_id"`
	Version      int       `json:"version"` // of the document
	Filename     string    `json:"filename"`
	Title        string    `json:"title,omitempty"`
	Source       string    `json:"source"`
	// Also are the documents that have the same passage, a hundred at most.
	Also []Twin `json:"also,omitempty"`
	// Before and Behind are its neighbours, in the document's order.
	Before []kb.Passage `json:"before,omitempty"`
	After  []kb.Passage `json:"behind,omitempty"`
	// Recipe is how its vector was made; empty for a chunk another client wrote.
	Recipe string `json:"-"`
}

// Twin is a passage with the same text as a hit, in another document or in another place of the same.
type Twin struct {
	ChunkID    uuid.UUID `json:"chunk_id"`
	DocumentID uuid.UUID `json:"document_id"`
	Version    int       `json:"version"`
	Filename   string    `json:"filename"`
	Title      string    `json:"title,omitempty"`
	Source     string    `json:"source"`
}

// Result is what a search found, and how.
type Result struct {
	Hits []Hit
	Plan Plan
	// Words are the question's, as lexical search counted them, and Corrections those that were taken for others.
	Words       []*Word
	Corrections []Correction
	// Next continues after these hits; empty where there are no more, and with Diversity. While nothing changes, the
	// pages are those of one search.
	Next string
}

// ErrSlow says that a search took longer than it was let.
var ErrSlow = tenantdb.ErrSlow

// QueryError says what is wrong with a query.
type QueryError struct{ Field, Reason string }

func (e *QueryError) Error() string { return "search: " + e.Field + ": " + e.Reason }

// check reports what is wrong with a query before the database is asked.
func (q *Query) check() error {
	bad := func(field, reason string, args ...any) error {
		return &QueryError{field, fmt.Sprintf(reason, args...)}
	}
	switch {
	case q.Mode != Semantic && q.Mode != Lexical && q.Mode != Hybrid:
		return bad("mode", "%.40q is none: it is semantic, lexical or hybrid", q.Mode)
	case q.K < 1 || q.K > MaxHits:
		return bad("top-k", "%d: it is 1 to %d", q.K, MaxHits)
	case q.Mode != Semantic && strings.TrimSpace(q.Text) == "":
		return bad("text", "it is empty: say what to look for")
	case len(q.Text) > MaxText:
		return bad("text", "it is %d bytes long, the limit is %d", len(q.Text), MaxText)
	case !(q.Diversity >= 0 && q.Diversity <= 1):
		return bad("diversity", "%v: it is 0 to 1", q.Diversity)
	case q.Neighbours < 0 || q.Neighbours > MaxNeighbours:
		return bad("neighbours", "%d: it is 0 to %d", q.Neighbours, MaxNeighbours)
	case q.Within < 0 || q.Within > MaxWithin || q.Within > 0 && q.Within < time.Millisecond:
		return bad("within", "%v: it is a millisecond to %v", q.Within, MaxWithin)
	case q.Mode != Semantic && q.read().operators() > maxOperators:
		return bad("text", "%d phrases and words that must not stand there, the limit is %d; where these are no "+
			"operators, ask in another mode or say so (operators: false)", q.read().operators(), maxOperators)
	case strings.ContainsRune(q.Text, 0):
		return bad("text", "it has a zero byte")
	case len(q.Collections) > kb.MaxCollectionsOf:
		return bad("collections", "%d, the limit is %d", len(q.Collections), kb.MaxCollectionsOf)
	case q.MinScore != nil && (math.IsNaN(*q.MinScore) || math.IsInf(*q.MinScore, 0)):
		return bad("min-score", "%v is no score", *q.MinScore)
	case q.Weights != nil && !(q.Weights.Semantic >= 0 && q.Weights.Lexical >= 0 &&
		q.Weights.Semantic+q.Weights.Lexical > 0 && q.Weights.Semantic+q.Weights.Lexical < math.MaxFloat64):
		return bad("weights", "%v and %v: they are 0 or more, and not both 0", q.Weights.Semantic, q.Weights.Lexical)
	case q.Weights != nil && q.Mode != Hybrid:
		return bad("weights", "they are for hybrid mode alone")
	case q.Diversity > 0 && q.Model != "":
		return bad("diversity", "it is for the first model, and %s serves", q.Model)
	case q.Diversity > 0 && (q.PerDocument || q.After != ""):
		return bad("diversity", "it does not go with one passage per document, nor with a further page")
	}
	if err := q.CheckConditions(); err != nil || q.Mode == Lexical {
		return err
	}
	dimensions := len(q.Vector)
	if q.Model == "" {
		dimensions = embed.Dimensions
	}
	if err := kb.CheckVector(q.Vector, dimensions); err != nil {
		return fmt.Errorf("search: search: vector: %w", err)
	}
	return nil
}
