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

// Correction is a word that none of the tenant's passages has, and those of theirs it was taken for.
type Correction struct {
	From string   `json:"word"`
	To   []string `json:"as,omitempty"`
}

// The measures of forgiving.
const (
	distanceAllowed = 4    // words of a question at most
	minWord         = 5    // characters of a word that is forgiven one mistake
	longWord        = 8    // and of one that is forgiven two
	maxCandidates   = 3    // words that one is taken for
	maxTerms        = 5000 // of the tenant's that are looked at
	maxCorrected    = 64   // characters of a word
)

//go:embed sql/unknown_words.sql
var unknownSQL string

//go:embed sql/near_words.sql
var nearSQL string

// correctSpelling finds the words of a question that no passage of the tenant has, and what of theirs is nearest: one
// letter off, or two in a long word. A word must begin as it should.
func correctSpelling(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState,
	q *Query) (all []Correction, err error) {
	text := parseQuery(q.Text).ranked
	if q.Mode == Semantic || text == "" || st.chunks == 0 {
		return nil, nil
	}
	var unknown []string
	languages := st.reads()
	err = tenantdb.Send(ctx, tx,
		tenantdb.Statement{SQL: unknownSQL,
			Args:   []any{tenant, languages, text, minWord, maxCorrected, distanceAllowed * len(languages)},
			Within: q.Within, KeepSnapshot: true}, func(rows pgx.Rows) (err error) {
			unknown, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	for i := 0; err == nil && i < len(unknown) && len(all) < distanceAllowed; i++ {
		word := unknown[i]
		_, size := utf8.DecodeRuneInString(word)
		length, off := utf8.RuneCountInString(word), allowedMistakes(word)
		var terms []string
		err = tenantdb.Send(ctx, tx,
			tenantdb.Statement{SQL: nearSQL,
				Args:   []any{tenant, word[:size], snippetAfter(word[:size]), length - off, length + off, maxTerms},
				Within: q.Within, KeepSnapshot: true}, func(rows pgx.Rows) (err error) {
				terms, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			})
		if as := nearestTerms(word, terms, off); len(as) > 0 {
			all = append(all, Correction{word, as})
		}
	}
	return all, err
}

func allowedMistakes(word string) int {
	if utf8.RuneCountInString(word) >= longWord {
		return 2
	}
	return 1
}

// nearestTerms are the terms that are the fewest mistakes away from a word.
func nearestTerms(word string, terms []string, most int) (near []string) {
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
	return near[:min(len(near), maxCandidates)]
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
