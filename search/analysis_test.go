package search_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// TestAQuestionIsReadAgainstItsOwnTenant runs every statement that reads a question: as A it finds words of A's; as
// another tenant, and for A as another or as none, it finds none.
func TestAQuestionIsReadAgainstItsOwnTenant(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	say(t, door, tenantA, "german", map[string]string{"a": "Die Pumpenrücksendung dauert lange"})
	const term = "pumpenrucksend"
	statements := search.AnalysisSQL()
	args := map[string][]any{
		"question":  {tenantA, []string{"german"}, "Pumpenrücksendung"},
		"compounds": {tenantA, []string{"pumpen"}, 10},
		"splits":    {tenantA, []string{"german"}, []string{"Pumpenrücksendung"}},
		"near":      {tenantA, "p", "q", 1, 100, 1000, 1, "p"},
		"surfaces":  {tenantA, []string{term}},
	}
	if len(args) != len(statements) {
		t.Fatalf("%d statements, arguments for %d", len(statements), len(args))
	}
	finds := map[string]string{"question": "{" + term, "compounds": term, "splits": "[" + term, "near": term,
		"surfaces": "pumpenrücksendung"}
	read := func(tx pgx.Tx, name string, of uuid.UUID) (string, error) {
		rows, err := tx.Query(t.Context(), statements[name], append([]any{of}, args[name][1:]...)...)
		if err != nil {
			return "", err
		}
		var b strings.Builder
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				return "", err
			}
			if name == "question" {
				values = []any{strings.Replace(fmt.Sprint(values[4]), "[", "{", 1)} // the terms that a chunk has
			}
			fmt.Fprintln(&b, values...)
		}
		return b.String(), rows.Err()
	}
	for name := range statements {
		for as, c := range map[string]struct {
			tenant, of uuid.UUID // the one that is set, and the one that is asked for
			set        string
		}{"A": {tenantA, tenantA, ""}, "B": {tenantB, tenantB, ""}, "forged": {tenantB, tenantA, ""},
			"nobody": {tenantB, tenantA, `RESET app.current_tenant`}} {
			err := door.Tx(t.Context(), c.tenant, func(_ context.Context, tx pgx.Tx) error {
				if c.set != "" {
					if _, err := tx.Exec(t.Context(), c.set); err != nil {
						return err
					}
				}
				found, err := read(tx, name, c.of)
				if has := strings.Contains(found, finds[name]); has != (as == "A") {
					t.Errorf("%s as %s finds %q", name, as, found)
				}
				return err
			})
			if err != nil {
				t.Errorf("%s as %s: %v", name, as, err)
			}
		}
	}
}

// TestFunctionsThatReadTextTakeAnything calls each with nothing, with what is empty, huge, or of no language: it
// returns soon, or says that there is no such language.
func TestFunctionsThatReadTextTakeAnything(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	texts := []string{"NULL", "''", "' '", "repeat('a', 3000000)", "repeat('a-', 100000)", "repeat('水', 300000)",
		"repeat('Ａ', 100000)", "repeat(U&'\\0301', 100000)", "repeat('aB', 50000)", "repeat('1,', 100000)",
		"repeat('''', 100000)", "repeat('é ', 100000)"}
	languages := []string{"NULL", "'german'", "'x\"; DROP TABLE kb_terms; --'"}
	var calls []string
	for _, text := range texts {
		for _, f := range []string{"kb_fold", "kb_tokens", "kb_parts", "kb_pairs"} {
			calls = append(calls, fmt.Sprintf("%s(%s)", f, text))
		}
		for _, l := range languages {
			calls = append(calls, fmt.Sprintf("kb_umlauts(%s, %s)", l, text), fmt.Sprintf("kb_read(%s, %s)", l, text),
				fmt.Sprintf("kb_sequence(%s, %s)", l, text),
				fmt.Sprintf("kb_question(ARRAY[%s]::text[], %s)", l, text),
				fmt.Sprintf("kb_meets(%s, %[2]s, ARRAY[NULL, %[2]s], ARRAY[NULL, 'a'], ARRAY[NULL, 'b'])", l, text),
				fmt.Sprintf("kb_postings(NULL, NULL, %s, %s)", l, text))
		}
	}
	calls = append(calls, "kb_read('', 'a')", "kb_question(NULL, 'a')", "kb_question('{}', 'a')",
		"kb_question(NULL, NULL)", "kb_meets('german', 'a', NULL, NULL, NULL)",
		"kb_dictionary(NULL)", "kb_dictionary('klingon')",
		"kb_term(NULL, NULL, NULL)", "kb_term('german', NULL, 'a')")
	for _, call := range calls {
		err := door.Tx(t.Context(), tenantB, func(_ context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SET LOCAL statement_timeout = '20s'`); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), `SELECT count(*) FROM `+call+` f`)
			return err
		})
		var pg *pgconn.PgError
		if err != nil && (!errors.As(err, &pg) || pg.Code != "42704" && pg.Code != "42601" && pg.Code != "42602") {
			t.Errorf("%.120s: %v", call, err)
		}
	}
}

// TestAHostileQuestionIsAnsweredSoon asks what takes longest to look up, of a tenant whose language joins words.
func TestAHostileQuestionIsAnsweredSoon(t *testing.T) {
	door := testkit.Door(t)
	texts := map[string]string{}
	for i := range 100 {
		text := ""
		for j := range 50 {
			text += fmt.Sprintf("%c%s%s ", 'a'+(i+j)%26, strings.Repeat(string(rune('a'+i%26)), 4),
				strings.Repeat(string(rune('a'+j%26)), 5))
		}
		texts[fmt.Sprint(i)] = text
	}
	say(t, door, tenantA, "german", texts)
	words := func(n, letters int) string {
		r := rand.New(rand.NewPCG(1, uint64(n)))
		var b strings.Builder
		for range n {
			for range letters {
				b.WriteByte(byte('a' + r.IntN(26)))
			}
			b.WriteByte(' ')
		}
		return b.String()
	}
	for name, question := range map[string]string{"a long word": words(1, 32000),
		"Cyrillic":   strings.Repeat("ж", 16000),
		"long words": words(30, 1000), "words": words(3500, 8), "compounds": words(500, 60), "short": words(10000, 2),
		"joined": strings.Repeat("a\u200d", 8000), "phrases": strings.Repeat(`"ab cd" `, 4000),
		"never": strings.Repeat("-ab ", 8000), "beginnings": strings.Repeat("ab* ", 8000),
		"ligatures": strings.Repeat("\ufdfa", 10000)} {
		for _, q := range []search.Query{{Mode: search.Lexical, Text: question, K: 5},
			{Mode: search.Hybrid, Text: question, Vector: near(2, 1, 0), K: 5}} {
			began := time.Now()
			bad := (*search.QueryError)(nil)
			if _, err := search.NewSearcher().Search(t.Context(), door, tenantA, q); err != nil &&
				!(errors.As(err, &bad) && bad.Field == "text" && q.Mode == search.Lexical) {
				t.Errorf("%s, %s: %v", q.Mode, name, err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s, %s: %v", q.Mode, name, took)
			} else {
				t.Logf("%s, %s: %v", q.Mode, name, took)
			}
		}
	}
}
