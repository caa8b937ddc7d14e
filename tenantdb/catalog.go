package tenantdb

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The catalog as the newest migration leaves it: what everything that is ours consists of.
// TestTheCatalogIsWhatTheMigrationsMake writes it.
var (
	//go:embed catalog.sql
	catalogSQL string
	//go:embed catalog.txt
	catalogText string
)

// Difference is something about our tables, functions, triggers, rules, policies, grants or roles that is not as this
// program's migrations make it. Somebody changed it.
type Difference struct {
	Kind     string `json:"kind"` // trigger, function, policy, …
	Name     string `json:"name"`
	Actual   string `json:"found"`  // empty: it is gone
	Expected string `json:"wanted"` // empty: the migrations make none
}

// String says what is different.
func (d Difference) String() string {
	switch {
	case d.Actual == "":
		return fmt.Sprintf("%s %s is gone", d.Kind, d.Name)
	case d.Expected == "":
		return fmt.Sprintf("%s %s was added: %s", d.Kind, d.Name, d.Actual)
	}
	return fmt.Sprintf("%s %s was changed: it is %q, not %q", d.Kind, d.Name, d.Actual, d.Expected)
}

// What `migrate guard` installs, as a superuser alone can: all of it, or none of it. Who takes all migrations back
// loses the finder, and not the guard.
const (
	guardKind  = "guard"
	finderKind = "finder"
)

// Catalog is what was found of a database's own catalog.
type Catalog struct {
	Differences []Difference
	Guarded     bool // whether the guard against quiet DDL is installed, or something of it is left
}

// Catalog compares everything that is ours in the database's catalog with what the migrations make.
func (d *Door) Catalog(ctx context.Context) (Catalog, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return Catalog{}, fmt.Errorf("read the catalog: %w", err)
	}
	defer conn.Release()
	return readCatalog(ctx, conn.Conn())
}

// Catalog is Door.Catalog as the notary's role.
func (e *Evidence) Catalog(ctx context.Context) (Catalog, error) {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return Catalog{}, fmt.Errorf("read the catalog: %w", err)
	}
	defer conn.Release()
	return readCatalog(ctx, conn.Conn())
}

func readCatalog(ctx context.Context, conn *pgx.Conn) (c Catalog, err error) {
	lines, err := catalogLines(ctx, conn)
	if err != nil {
		return c, fmt.Errorf("read the catalog: %w", err)
	}
	found := strings.Join(lines, "\n") + "\n"
	if sha256.Sum256([]byte(found)) == sha256.Sum256([]byte(catalogText)) {
		return Catalog{Guarded: true}, nil
	}
	return compareCatalog(lines, strings.Split(strings.TrimSuffix(catalogText, "\n"), "\n")), nil
}

// catalogLines are the catalog's rows, a line each: its fields, tabs between them.
func catalogLines(ctx context.Context, conn *pgx.Conn) (lines []string, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// So that names are written in full, and nothing in another schema shadows one of PostgreSQL's own.
		if _, err := tx.Exec(ctx, `SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, catalogSQL)
		if err != nil {
			return err
		}
		lines, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			var kind, name, definition string
			err := row.Scan(&kind, &name, &definition)
			return kind + "\t" + name + "\t" + strings.Join(strings.Fields(definition), " "), err
		})
		return err
	})
	return lines, err
}

// entry is a line of the catalog, taken apart.
type entry struct{ kind, name, definition string }

func entryOf(line string) (e entry) {
	e.kind, line, _ = strings.Cut(line, "\t")
	e.name, e.definition, _ = strings.Cut(line, "\t")
	return e
}

func (e entry) key() [2]string { return [2]string{e.kind, e.name} }

func compareCatalog(found, wanted []string) (c Catalog) {
	is, known, kinds := map[[2]string]entry{}, map[[2]string]bool{}, map[string]bool{}
	for _, line := range found {
		e := entryOf(line)
		is[e.key()] = e
		kinds[e.kind] = true
	}
	c.Guarded = kinds[guardKind] || kinds[finderKind]
	missing := func(e entry) bool {
		return e.kind == guardKind && !c.Guarded || e.kind == finderKind && !kinds[finderKind]
	}
	for _, line := range wanted {
		e := entryOf(line)
		known[e.key()] = true
		got, there := is[e.key()]
		switch {
		case there && got.definition == e.definition, !there && missing(e): // as it should be, or never installed
		default:
			c.Differences = append(c.Differences,
				Difference{Kind: e.kind, Name: e.name, Actual: got.definition, Expected: e.definition})
		}
	}
	for _, line := range found {
		if e := entryOf(line); !known[e.key()] && !harmless(e) {
			c.Differences = append(c.Differences, Difference{Kind: e.kind, Name: e.name, Actual: e.definition})
		}
	}
	return c
}

// harmless reports what an operator may add to our tables: an index that refuses no row and computes nothing.
func harmless(e entry) bool {
	return e.kind == "index" && strings.HasPrefix(e.definition, "CREATE INDEX ") &&
		!strings.Contains(e.definition, ", computed")
}
