package search

import (
	"cmp"
	"context"
	_ "embed"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Correction is a word that none of the tenant's passages has in any form, and the words of theirs it was taken for.
type Correction struct {
	From string   `json:"word"`
	To   []string `json:"as,omitempty"`
}

// Limits of spelling correction.
const (
	maxCorrections = 8    // words of a query that are tried
	minWord        = 5    // characters of a word that is allowed one mistake
	longWord       = 8    // and of one that is allowed two
	minTerm        = 3    // characters of a term that the beginning of a word is compared with, and that are the same
	maxCompared    = 6    // terms that it is looked up how passages write
	maxCandidates  = 3    // words that one is taken for
	maxTerms       = 5000 // of the tenant's that are looked at
	maxCorrected   = 64   // characters of a word
)

//go:embed sql/near_words.sql
var nearSQL string

//go:embed sql/surfaces.sql
var surfacesSQL string

// correctSpelling finds for words that no passage of the tenant has the nearest that one has: one letter off, or two in
// a long word. A word must begin as it should. What it is taken for counts half.
func correctSpelling(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query,
	words []*Word) (all []Correction, err error) {
	tried := 0
	for _, w := range words {
		n := utf8.RuneCountInString(w.Word)
		if len(w.found) > 0 || w.Weight == 0 || w.begin != "" || n < minWord || n > maxCorrected || !isLetters(w.Word) {
			continue
		}
		if tried++; tried > maxCorrections {
			break
		}
		near, err := nearWords(ctx, tx, tenant, q, w)
		if err != nil {
			return nil, err
		}
		if len(near) == 0 {
			continue
		}
		for _, c := range near {
			w.found = append(w.found, weightedTerm{c.term, correctedFactor})
			w.Terms = append(w.Terms, c.surface)
		}
		slices.Sort(w.Terms)
		w.Terms, w.Note = slices.Compact(w.Terms), "corrected"
		all = append(all, Correction{w.Word, w.Terms})
	}
	return all, nil
}

// candidate is a term of the tenant's that a word may have been meant for.
type candidate struct {
	term     string
	surface  string // how a passage writes it
	mistakes int    // between them, or between their terms
	begins   int    // between the term and the beginning of the word that is nearest to it
}

// nearWords returns the tenant's words that are nearest to one that it has not. Terms are compared first: the word's
// with the tenant's; and, because a mistake may keep its ending from being taken off, theirs with its beginning. Then
// it is compared with how passages write the nearest of them.
func nearWords(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query, w *Word) (near []candidate, err error) {
	most := allowedMistakes(w.Word)
	all, err := candidates(ctx, tx, tenant, q, w, most)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	terms := make([]string, len(all))
	for i := range all {
		terms[i] = all[i].term
	}
	written, err := surfaces(ctx, tx, tenant, q, terms)
	if err != nil {
		return nil, err
	}
	word := []rune(w.Word)
	for i := range all {
		c := &all[i]
		c.surface = written[i]
		whole, _ := editDistance(word, []rune(c.surface), most)
		if c.mistakes = min(c.mistakes, whole); c.mistakes <= most {
			near = append(near, *c)
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(a.mistakes-b.mistakes, strings.Compare(a.term, b.term))
	})
	for i := range near {
		if i == maxCandidates || near[i].mistakes > near[0].mistakes {
			return near[:i], nil
		}
	}
	return near, nil
}

// candidates returns the tenant's terms that are nearest to one of a word's readings or to its beginning. Readings
// that begin alike are compared with the same terms.
func candidates(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query, w *Word, most int) (all []candidate,
	err error) {
	for begin, reads := range byFirstLetter(w.reads) {
		shortest, longest := maxCorrected, 0
		var words [][]rune
		for _, word := range reads {
			r := []rune(word)
			words, shortest, longest = append(words, r), min(shortest, len(r)-most), max(longest, len(r)+most)
		}
		same := string(words[0][:minTerm])
		var term string
		err = tenantdb.Send(ctx, tx,
			tenantdb.Statement{SQL: nearSQL, Args: []any{tenant, begin, textAfter(begin), shortest, longest, maxTerms,
				max(minTerm, shortest/2), same}, Within: q.Within, KeepSnapshot: true}, func(rows pgx.Rows) error {
				_, err := pgx.ForEachRow(rows, []any{&term}, func() error {
					c := candidate{term: term, mistakes: most + 1, begins: most + 1}
					letters := []rune(term)
					for _, word := range words {
						whole, begins := editDistance(word, letters, most)
						c.mistakes, c.begins = min(c.mistakes, whole), min(c.begins, begins)
					}
					if min(c.mistakes, c.begins) <= most {
						all = append(all, c)
					}
					return nil
				})
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.mistakes-b.mistakes, a.begins-b.begins, len(b.term)-len(a.term),
			strings.Compare(a.term, b.term))
	})
	all = slices.CompactFunc(all, func(a, b candidate) bool { return a.term == b.term })
	if len(all) > 0 && all[0].mistakes <= 1 { // no beginning is nearer
		all = slices.DeleteFunc(all, func(c candidate) bool { return c.mistakes > 1 })
		return all[:min(len(all), maxCandidates)], nil
	}
	return all[:min(len(all), maxCompared)], nil
}

// byFirstLetter groups a word's readings that are long enough to be corrected.
func byFirstLetter(reads []string) map[string][]string {
	groups := map[string][]string{}
	for _, word := range reads {
		if utf8.RuneCountInString(word) >= minWord-1 {
			_, size := utf8.DecodeRuneInString(word)
			groups[word[:size]] = append(groups[word[:size]], word)
		}
	}
	return groups
}

// surfaces returns how a passage writes each of some terms.
func surfaces(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query, terms []string) (words []string, err error) {
	err = tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: surfacesSQL, Args: []any{tenant, terms}, Within: q.Within,
		KeepSnapshot: true}, func(rows pgx.Rows) (err error) {
		words, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return words, err
}

func allowedMistakes(word string) int {
	if utf8.RuneCountInString(word) >= longWord {
		return 2
	}
	return 1
}

// editDistance counts the letters put in, left out, changed or swapped with the next (optimal string alignment) that
// make b of a, and of the beginning of a that is nearest to b; more than most is most+1.
func editDistance(a, b []rune, most int) (whole, beginning int) {
	beginning = most + 1
	if len(b)-len(a) > most {
		return most + 1, beginning
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
		beginning = min(beginning, last[len(b)])
	}
	return min(last[len(b)], most+1), beginning
}
