package search

import (
	"context"
	_ "embed"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Word is a word of a query, as lexical search counts it.
type Word struct {
	Word string `json:"word"`
	// Weight is how often it counts: as often as it stands in the query, less where it was corrected; 0 for a stop word
	// of the query's language, and for a word that no passage has.
	Weight float64 `json:"weight"`
	// Terms are what passages have of it: its stems, other spellings, compounds; of a corrected word, those it was
	// taken for.
	Terms []string `json:"terms,omitempty"`
	// Note says why it does not count, or counts as something else: stop word, not found, corrected, part of another.
	Note string `json:"note,omitempty"`

	found []weightedTerm
	begin string   // of a term; empty for whole ones
	reads []string // all its terms, whether a passage has them or not
	must  bool     // it is of a phrase that must be there
}

// weightedTerm is a term of a word, and how much it counts for the word.
type weightedTerm struct {
	term   string
	factor float64
}

// Notes of words.
const (
	noteStop    = "stop word"
	noteUnknown = "not found"
	notePart    = "part of another word"
)

// letterWeight is what a single letter counts beside words: initials say little.
const letterWeight = 0.05

// How much a term counts that is not the word itself.
const (
	compoundFactor  = 0.5
	correctedFactor = 0.5
)

// readWord is a row of question.sql.
type readWord struct {
	n           int64
	kind, word  string
	reads, have []string
	stops       []string
}

//go:embed sql/question.sql
var questionSQL string

// analyze reads a query's words as the tenant's passages are read, and selects which count and with what weight.
func analyze(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState, q *Query) (words []*Word, err error) {
	if q.Mode == Semantic || st.chunks == 0 {
		return nil, nil
	}
	text := q.read()
	rows, err := readWords(ctx, tx, tenant, st, q, text.ranked)
	if err != nil {
		return nil, err
	}
	words = countWords(rows, st.reads())
	if err := addBeginnings(ctx, tx, tenant, st, q, text.prefixes, &words); err != nil {
		return nil, err
	}
	if text.strict && len(text.phrases) > 0 {
		rows, err := readWords(ctx, tx, tenant, st, q, strings.Join(text.phrases, " "))
		if err != nil {
			return nil, err
		}
		markPhrases(words, rows)
	}
	return words, nil
}

// addBeginnings adds words of which the beginning is given: all terms that begin so, and those that the beginning is
// a form of, since passages' words are kept by their stems.
func addBeginnings(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState, q *Query, beginnings []string,
	words *[]*Word) error {
	for _, begin := range beginnings {
		w := &Word{Word: begin + "*", Weight: 1, begin: begin}
		if err := tx.QueryRow(ctx, `SELECT kb_fold($1)`, begin).Scan(&w.begin); err != nil {
			return err
		}
		rows, err := readWords(ctx, tx, tenant, st, q, begin)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.kind != "w" || r.word != begin {
				continue
			}
			for _, t := range r.have {
				if !strings.HasPrefix(t, w.begin) { // it is found by its beginning
					w.found = append(w.found, weightedTerm{t, 1})
				}
			}
		}
		*words = append(*words, w)
	}
	return nil
}

func readWords(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState, q *Query,
	text string) (all []readWord, err error) {
	if text == "" {
		return nil, nil
	}
	err = tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: questionSQL, Args: []any{tenant, st.reads(), text},
		Within: q.Within, KeepSnapshot: true}, func(rows pgx.Rows) error {
		all = nil
		var r readWord
		_, err := pgx.ForEachRow(rows, []any{&r.n, &r.kind, &r.word, &r.reads, &r.have, &r.stops}, func() error {
			all = append(all, r)
			r = readWord{}
			return nil
		})
		return err
	})
	return all, err
}

// countWords selects the words that count: all but the stop words of the query's language, where there are others. A
// word that stands there several times counts as often.
func countWords(rows []readWord, languages []string) (words []*Word) {
	language := languageOf(rows, languages)
	isStop := func(r *readWord) bool { return language != "" && slices.Contains(r.stops, language) }
	onlyStops := !slices.ContainsFunc(rows, func(r readWord) bool { return !isStop(&r) })
	whole := map[int64]bool{} // tokens that a passage has as they stand, and that no words can replace
	for _, r := range rows {
		if r.kind == "i" && len(r.have) > 0 && strings.ContainsFunc(r.word, unicode.IsDigit) {
			whole[r.n] = true
		}
	}
	byTerm := map[string]*Word{}
	for i := range rows {
		r := &rows[i]
		if r.kind == "i" && len(r.have) == 0 {
			continue // its parts are looked for
		}
		w := &Word{Word: r.word, reads: r.reads}
		switch {
		case whole[r.n] && r.kind != "i":
			w.Note = notePart
		case isStop(r) && !onlyStops:
			w.Note = noteStop
		case r.kind == "p" && utf8.RuneCountInString(r.word) == 1:
			w.Weight, w.begin = 1, r.word
		default:
			if w.Weight = 1; utf8.RuneCountInString(r.word) == 1 && len(rows) > 1 {
				w.Weight = letterWeight
			}
			for _, t := range r.have {
				w.found = append(w.found, weightedTerm{t, 1})
			}
			if len(r.have) == 0 {
				w.Note = noteUnknown
			}
		}
		keys := r.have
		if len(keys) == 0 || w.Note == notePart || w.Note == noteStop {
			keys = []string{w.Note + "\x00" + r.word}
		}
		if w.begin != "" {
			keys = []string{"\x00" + w.begin}
		}
		if same := sameWord(byTerm, keys); same != nil {
			same.Weight += w.Weight
			for _, t := range w.found {
				if !slices.Contains(same.found, t) {
					same.found = append(same.found, t)
				}
			}
			w = same
		} else {
			words = append(words, w)
		}
		for _, k := range keys {
			byTerm[k] = w
		}
	}
	return words
}

// sameWord returns the word that one of the terms was found for already.
func sameWord(byTerm map[string]*Word, terms []string) *Word {
	for _, t := range terms {
		if w := byTerm[t]; w != nil {
			return w
		}
	}
	return nil
}

// languageOf returns the language of a query, of those that the tenant has and English: the one of which it has most
// stop words; empty where it has none of any.
func languageOf(rows []readWord, languages []string) (best string) {
	most := 0
	for _, l := range languages {
		n := 0
		for i := range rows {
			if slices.Contains(rows[i].stops, l) {
				n++
			}
		}
		if n > most {
			best, most = l, n
		}
	}
	return best
}

// markPhrases notes which words are of phrases that must be there.
func markPhrases(words []*Word, phrases []readWord) {
	for _, w := range words {
		for i := range phrases {
			if phrases[i].kind != "i" && slices.ContainsFunc(w.found, func(t weightedTerm) bool {
				return slices.Contains(phrases[i].have, t.term)
			}) {
				w.must = w.Weight > 0
			}
		}
	}
}

// finishWords gives each word its terms as they are shown, and has it weigh what the best of them counts.
func finishWords(words []*Word) {
	for _, w := range words {
		best := 0.0
		for _, t := range w.found {
			best = max(best, t.factor)
		}
		shown := w.Terms
		w.Terms = nil
		for i := range w.found {
			w.found[i].factor /= best
			w.Terms = append(w.Terms, w.found[i].term)
		}
		if best > 0 {
			w.Weight *= best
		}
		if shown != nil {
			w.Terms = shown
		}
		if w.begin != "" {
			w.Terms = append([]string{w.begin + "*"}, w.Terms...)
		}
		if len(w.Terms) == 0 && w.Note != noteStop && w.Note != notePart {
			w.Weight, w.Note = 0, noteUnknown
		}
	}
}
