package search

import (
	"context"
	_ "embed"
	"slices"
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
	maxCorrections = 4    // words of a query
	minWord        = 5    // characters of a word that is allowed one mistake
	longWord       = 8    // and of one that is allowed two
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
	for _, w := range words {
		n := utf8.RuneCountInString(w.Word)
		if len(w.found) > 0 || w.Weight == 0 || w.begin != "" || n < minWord || n > maxCorrected || !isLetters(w.Word) {
			continue
		}
		if len(all) == maxCorrections {
			break
		}
		terms, err := nearTerms(ctx, tx, tenant, q, w.reads)
		if err != nil {
			return nil, err
		}
		if len(terms) == 0 {
			continue
		}
		shown, err := surfaces(ctx, tx, tenant, q, terms)
		if err != nil {
			return nil, err
		}
		for _, t := range terms {
			w.found = append(w.found, weightedTerm{t, correctedFactor})
		}
		w.Note = "corrected"
		all = append(all, Correction{w.Word, shown})
	}
	return all, nil
}

// nearTerms returns the tenant's terms that are nearest to one of a word's readings. Readings that begin alike are
// compared with the same terms.
func nearTerms(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query, reads []string) (near []string, err error) {
	least := 3
	for begin, reads := range byFirstLetter(reads) {
		shortest, longest := maxCorrected, 0
		for _, word := range reads {
			length, off := utf8.RuneCountInString(word), allowedMistakes(word)
			shortest, longest = min(shortest, length-off), max(longest, length+off)
		}
		var terms []string
		err = tenantdb.Send(ctx, tx,
			tenantdb.Statement{SQL: nearSQL, Args: []any{tenant, begin, textAfter(begin), shortest, longest, maxTerms},
				Within: q.Within, KeepSnapshot: true}, func(rows pgx.Rows) (err error) {
				terms, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			})
		if err != nil {
			return nil, err
		}
		for _, word := range reads {
			switch found, distance := nearestTerms(word, terms, allowedMistakes(word)); {
			case len(found) == 0 || distance > least:
			case distance < least:
				near, least = found, distance
			default:
				near = append(near, found...)
			}
		}
	}
	slices.Sort(near)
	near = slices.Compact(near)
	return near[:min(len(near), maxCandidates)], nil
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

// surfaces returns how terms are written in the tenant's passages, without repeating one.
func surfaces(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query, terms []string) (words []string, err error) {
	err = tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: surfacesSQL, Args: []any{tenant, terms}, Within: q.Within,
		KeepSnapshot: true}, func(rows pgx.Rows) (err error) {
		words, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	slices.Sort(words)
	return slices.Compact(words), err
}

func allowedMistakes(word string) int {
	if utf8.RuneCountInString(word) >= longWord {
		return 2
	}
	return 1
}

// nearestTerms returns the terms that are the fewest mistakes away from a word, and how many these are.
func nearestTerms(word string, terms []string, most int) (near []string, mistakes int) {
	for _, t := range terms {
		switch d := editDistance([]rune(word), []rune(t), most); {
		case d > most:
		case d < most:
			near, most = []string{t}, d
		default:
			near = append(near, t)
		}
	}
	slices.Sort(near)
	return near[:min(len(near), maxCandidates)], most
}

// editDistance counts the letters put in, left out, changed or swapped with the next (optimal string alignment) that
// make b of a; more than most is most+1.
func editDistance(a, b []rune, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
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
	}
	return min(last[len(b)], most+1)
}
