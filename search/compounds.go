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

// Limits of compounds.
const (
	minCompoundPart = 4  // letters of a word that compounds are looked up by
	minCompound     = 9  // letters of a compound that is split
	maxCompound     = 60 // and the most: all its places are tried
	maxSplits       = 8  // words of a query that are tried
	maxCompounds    = 10 // that begin, and that end, with a word
)

//go:embed sql/compounds.sql
var compoundsSQL string

//go:embed sql/splits.sql
var splitsSQL string

// joinsWords reports whether a language writes several words as one.
func joinsWords(language string) bool {
	switch language {
	case "german", "dutch", "swedish", "danish", "norwegian", "finnish", "hungarian":
		return true
	}
	return false
}

// findCompounds adds to each word the compounds that begin or end with it, and finds a compound that no passage has by
// its two parts.
func findCompounds(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState, q *Query,
	words []*Word) ([]*Word, error) {
	if !slices.ContainsFunc(st.languages, joinsWords) {
		return words, nil
	}
	if err := addCompounds(ctx, tx, tenant, q, words); err != nil {
		return nil, err
	}
	tried := 0
	for _, w := range words {
		n := utf8.RuneCountInString(w.Word)
		if len(w.found) > 0 || w.Weight == 0 || w.begin != "" || n < minCompound || n > maxCompound ||
			!isLetters(w.Word) {
			continue
		}
		if tried++; tried > maxSplits {
			break
		}
		parts, err := splitCompound(ctx, tx, tenant, st, q, w)
		if err != nil {
			return nil, err
		}
		words = append(words, parts...)
	}
	return words, nil
}

func isLetters(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) })
}

func addCompounds(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, q *Query, words []*Word) error {
	var stems []string
	var of []*Word
	for _, w := range words {
		if w.Weight == 0 || w.begin != "" {
			continue
		}
		for _, stem := range w.reads {
			if utf8.RuneCountInString(stem) >= minCompoundPart && isLetters(stem) {
				stems, of = append(stems, stem), append(of, w)
			}
		}
	}
	if len(stems) == 0 {
		return nil
	}
	return tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: compoundsSQL, Args: []any{tenant, stems, maxCompounds},
		Within: q.Within, KeepSnapshot: true}, func(rows pgx.Rows) error {
		var n int
		var term string
		_, err := pgx.ForEachRow(rows, []any{&n, &term}, func() error {
			w := of[n-1]
			if !slices.ContainsFunc(w.found, func(t weightedTerm) bool { return t.term == term }) {
				w.found = append(w.found, weightedTerm{term, compoundFactor})
			}
			return nil
		})
		return err
	})
}

// links are the letters that join the parts of a compound.
var links = []string{"", "s", "es", "n", "en", "er", "e"}

// splitCompound returns the two words that a compound is made of, where the tenant has both.
func splitCompound(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, st *tenantState, q *Query,
	w *Word) (parts []*Word, err error) {
	letters := []rune(w.Word)
	var candidates []string
	for i := minCompoundPart; i <= len(letters)-minCompoundPart; i++ {
		head, tail := string(letters[:i]), string(letters[i:])
		for _, link := range links {
			if h, ok := strings.CutSuffix(head, link); ok && utf8.RuneCountInString(h) >= minCompoundPart {
				candidates = append(candidates, h, tail)
			}
		}
	}
	have := make([][]string, len(candidates))
	err = tenantdb.Send(ctx, tx, tenantdb.Statement{SQL: splitsSQL, Args: []any{tenant, st.reads(), candidates},
		Within: q.Within, KeepSnapshot: true}, func(rows pgx.Rows) error {
		var n int
		var terms []string
		_, err := pgx.ForEachRow(rows, []any{&n, &terms}, func() error {
			have[n-1] = slices.Clone(terms)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(candidates); i += 2 {
		if len(have[i]) == 0 || len(have[i+1]) == 0 {
			continue
		}
		w.Weight, w.Note = 0, "found by its parts"
		for j := i; j < i+2; j++ {
			part := &Word{Word: candidates[j], Weight: 1, Note: "part of " + w.Word}
			for _, t := range have[j] {
				part.found = append(part.found, weightedTerm{t, 1})
			}
			parts = append(parts, part)
		}
		return parts, nil
	}
	return nil, nil
}
