package tenantdb_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// FuzzLabels: what is granted is what the database has, whatever stands in it.
func FuzzLabels(f *testing.F) {
	for _, s := range [][2]string{{"legal", "hr"}, {`a"b`, `c\`}, {"{x}", "a,b"}, {"'", "''"},
		{`\'; SELECT 1; --`, "NULL"}, {"null", " "}, {"é", "\n"}, {`"`, `\"`}} {
		f.Add(s[0], s[1])
	}
	door := testkit.DoorOf(f, testkit.Database(f))
	tenant := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	f.Fuzz(func(t *testing.T, a, b string) {
		if tenantdb.CheckLabel(a) != nil || tenantdb.CheckLabel(b) != nil {
			return
		}
		want := slices.Compact(slices.Sorted(slices.Values([]string{a, b})))
		l := tenantdb.LabelsOf(a, b)
		if !slices.Equal(l.Names(), want) || !l.Has(a) || l.Has(a+b) && !slices.Contains(want, a+b) {
			t.Fatalf("%q became %q", want, l.Names())
		}
		err := door.Tx(tenantdb.WithLabels(t.Context(), l), tenant, func(ctx context.Context, tx pgx.Tx) error {
			var got []string
			err := tx.QueryRow(ctx, `SELECT ARRAY(SELECT l FROM unnest(kb_granted()) l ORDER BY l COLLATE "C")`).
				Scan(&got)
			if !slices.Equal(got, want) {
				t.Fatalf("%q is %q in the database", want, got)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestAContextIsNarrowedAndNeverWidened, through doors that trust and that do not, in every way in.
func TestAContextIsNarrowedAndNeverWidened(t *testing.T) {
	d := testkit.Database(t)
	trusting, strict := testkit.DoorOf(t, d), testkit.DoorOf(t, d)
	strict.GrantLabels()
	tenant := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	with := func(ctx context.Context, names ...string) context.Context {
		return tenantdb.WithLabels(ctx, tenantdb.LabelsOf(names...))
	}
	ctx := t.Context()
	for name, c := range map[string]struct {
		ctx  context.Context
		door *tenantdb.Door
		want string
	}{
		"nothing said, trusted": {ctx, trusting, "*"}, "nothing said": {ctx, strict, ""},
		"granted":                             {with(ctx, "hr", "legal"), strict, `{"hr","legal"}`},
		"granted, through a door that trusts": {with(ctx, "hr"), trusting, `{"hr"}`},
		"narrowed":                            {with(with(ctx, "hr", "legal"), "legal", "board"), strict, `{"legal"}`},
		"asked for every one":                 {with(with(ctx, "hr"), "*"), strict, `{"hr"}`},
		"narrowed from every one":             {with(with(ctx, "*"), "hr"), strict, `{"hr"}`},
		"narrowed to none":                    {with(with(ctx, "hr"), "legal"), trusting, ""},
		"none, and then some":                 {with(with(ctx), "legal"), trusting, ""},
		"its own housekeeping":                {tenantdb.Trusted(with(ctx, "hr")), strict, "*"},
	} {
		const sql = `SELECT current_setting('app.current_labels')`
		ways := map[string]func(read func(pgx.Rows) error) error{
			"Query": func(read func(pgx.Rows) error) error { return c.door.Query(c.ctx, tenant, sql, nil, read) },
			"Once": func(read func(pgx.Rows) error) error {
				return c.door.Once(c.ctx, tenant, tenantdb.Statement{SQL: sql}, read)
			},
			"Tx": func(read func(pgx.Rows) error) error {
				return c.door.Tx(c.ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
					if l, granted := tenantdb.Granted(ctx); !granted || l.String() != c.want {
						t.Errorf("%s: inside it is %q", name, l)
					}
					rows, err := tx.Query(ctx, sql)
					if err != nil {
						return err
					}
					return read(rows)
				})
			},
		}
		for how, way := range ways {
			var got string
			if err := way(func(rows pgx.Rows) (err error) {
				got, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
				return err
			}); err != nil || got != c.want {
				t.Errorf("%s by %s: %q, want %q, %v", name, how, got, c.want, err)
			}
		}
		// Nothing is left for who comes next on the same connection.
		for range 4 {
			if err := strict.Query(ctx, tenant, sql, nil, func(rows pgx.Rows) error {
				left, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
				if left != "" {
					t.Errorf("%s leaves %q behind", name, left)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := tenantdb.AllLabels()
	if _, lacks := all.Missing([]string{"*", "x"}); lacks || fmt.Sprint(all.Names()) != "[*]" {
		t.Error("who has all lacks one")
	}
	if name, lacks := tenantdb.LabelsOf("x").Missing([]string{"x", "*"}); !lacks || name != "*" {
		t.Error("who has one has all")
	}
}
