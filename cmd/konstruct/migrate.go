package main

import (
	"context"
	"fmt"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/tenantdb"
)

type migrateCmd struct {
	Up        migrateUpCmd        `cmd:"" help:"Apply what is missing; adopt and seal what was there."`
	Down      migrateDownCmd      `cmd:"" help:"Take the newest migration back. It drops evidence."`
	Status    migrateStatusCmd    `cmd:"" help:"List the migrations and when each was applied."`
	Version   migrateVersionCmd   `cmd:"" help:"Print the version that the database stands at."`
	TextIndex migrateTextIndexCmd `cmd:"" help:"Make or drop the index of the words in summaries."`
	Guard     migrateGuardCmd     `cmd:"" help:"Install, as a superuser, the event triggers against quiet DDL."`
}

// openSchema opens the owner's database. With no URL set at all it is the private one.
func (a *app) openSchema(ctx context.Context) (*migrations.Schema, func(), error) {
	s, _, done, err := a.openSchemaFor(ctx, "migrate")
	return s, done, err
}

// openSchemaFor returns the URL of a superuser beside, where one is known.
func (a *app) openSchemaFor(ctx context.Context, what string) (s *migrations.Schema, superuser string,
	closeAll func(), err error) {
	u, done, err := a.database(ctx)
	if err != nil {
		return nil, "", nil, err
	}
	url, err := requireURL(u.owner, "KONSTRUCT_OWNER_DATABASE_URL", what)
	if err == nil {
		s, err = migrations.Open(url)
	}
	if err != nil {
		done()
		return nil, "", nil, err
	}
	return s, u.superuser, func() { _ = s.Close(); done() }, nil
}

// listMigrations lists the migrations of the database in force.
func (a *app) listMigrations(ctx context.Context) ([]migrations.Step, error) {
	s, done, err := a.openSchema(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.Status(ctx)
}

// migrateUp migrates with a progress bar where adopted events have to be sealed.
func (a *app) migrateUp(ctx context.Context, url string) error {
	var p *progress
	err := migrations.Up(ctx, url, func(sealed, total int64) {
		if p == nil && total > 0 {
			p = a.newProgress("sealing adopted events", "events", total)
		}
		if p != nil {
			p.set(sealed, total, sealed)
		}
	})
	if p != nil {
		p.done()
		if err == nil {
			fmt.Fprintf(a.err, "sealed %s in %s\n", plural.Of(p.n, "adopted event", "adopted events"),
				time.Since(p.begun).Round(time.Millisecond))
		}
	}
	return err
}

type migrateTextIndexCmd struct {
	State string `arg:"" enum:"on,off" help:"on or off."`
}

// Help is shown by --help.
func (migrateTextIndexCmd) Help() string {
	return "With it konstruct audit search answers in milliseconds, whatever it looks for; it costs about half of " +
		"the events a second that can be written at most (docs/benchmarks.md). Without it a search reads the newest " +
		"events until it has found enough.\n\nExample:\n\n  konstruct migrate text-index on"
}

// Run makes or drops the index.
func (r migrateTextIndexCmd) Run(ctx context.Context, a *app) error {
	s, done, err := a.openSchema(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.TextIndex(ctx, r.State == "on"); err != nil {
		return err
	}
	return a.result(map[string]string{"text_index": r.State}, "")
}

type migrateUpCmd struct{}

// Run applies the migrations and seals adopted events.
func (migrateUpCmd) Run(ctx context.Context, a *app) error {
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	url, err := requireURL(u.owner, "KONSTRUCT_OWNER_DATABASE_URL", "migrate up")
	if err != nil {
		return err
	}
	if err := a.migrateUp(ctx, url); err != nil {
		return err
	}
	return a.result(map[string]int{"schema": tenantdb.Schema}, "the schema is up to date\n")
}

type migrateDownCmd struct {
	DestroyEvidence bool `help:"Yes, drop what the migration holds, events and seals included."`
}

// Run takes the newest migration back.
func (c migrateDownCmd) Run(ctx context.Context, a *app) error {
	if !c.DestroyEvidence {
		return coded{
			fmt.Errorf(
				"migrate down drops evidence: nothing was done; if that is what you want, add --destroy-evidence"),
			exitUsage}
	}
	s, done, err := a.openSchema(ctx)
	if err != nil {
		return err
	}
	defer done()
	name, err := s.Down(ctx)
	if err != nil {
		return err
	}
	shown := name
	if shown == "" {
		shown = "nothing: the database stands at 0"
	}
	return a.result(map[string]string{"took_back": name}, "took back %s\n", shown)
}

type migrateStatusCmd struct{}

// Run lists the migrations.
func (migrateStatusCmd) Run(ctx context.Context, a *app) error {
	steps, err := a.listMigrations(ctx)
	if err != nil {
		return err
	}
	return printTable(a, steps, []string{"VERSION", "NAME", "APPLIED"}, func(s migrations.Step) []string {
		applied := "not yet"
		if !s.Applied.IsZero() {
			applied = s.Applied.UTC().Format(time.RFC3339)
		}
		return []string{fmt.Sprint(s.Version), s.Name, applied}
	})
}

type migrateVersionCmd struct{}

// Run prints the version.
func (migrateVersionCmd) Run(ctx context.Context, a *app) error {
	steps, err := a.listMigrations(ctx)
	if err != nil {
		return err
	}
	at := int64(0)
	for _, st := range steps {
		if !st.Applied.IsZero() {
			at = st.Version
		}
	}
	if a.JSON {
		return a.json(map[string]int64{"version": at, "newest": steps[len(steps)-1].Version})
	}
	_, err = fmt.Fprintln(a.out, at)
	return err
}

type migrateGuardCmd struct {
	PrintSQL bool `name:"print-sql" help:"Print the statements for psql instead, for whoever may run them."`
}

// Help is shown by --help.
func (migrateGuardCmd) Help() string {
	return "It also lets runs and words be looked up by index, as role konstruct_finder."
}

// Run installs the event triggers.
func (c migrateGuardCmd) Run(ctx context.Context, a *app) error {
	if c.PrintSQL {
		_, err := fmt.Fprint(a.out, migrations.GuardScript())
		return err
	}
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	url, err := requireURL(u.superuser, "KONSTRUCT_SUPERUSER_DATABASE_URL", "migrate guard")
	if err != nil {
		return err
	}
	if err := migrations.Guard(ctx, url); err != nil {
		return err
	}
	a.noteRecord(ctx, u.app, audit.ActionGuard, map[string]any{"schema": tenantdb.Schema})
	_, err = fmt.Fprintln(a.out,
		"DDL on the audit trail is refused from now on, and logged where konstruct.allow_ddl lets it through")
	return err
}
