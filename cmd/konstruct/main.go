// Command konstruct is the audit trail and knowledge base for AI agents, in one binary.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/migrations"
)

type cli struct {
	DataDir string `help:"Folder for the private cluster and other data." env:"KONSTRUCT_DATA_DIR" default:".data" type:"path"`

	Dev     devCmd     `cmd:"" help:"For development: a private database."`
	Migrate migrateCmd `cmd:"" help:"Bring the schema up to date."`
	Doctor  doctorCmd  `cmd:"" help:"Check that this role and this database hold the promises."`
	Audit   auditCmd   `cmd:"" help:"The audit trail."`
}

type devCmd struct {
	DB devDBCmd `cmd:"" name:"db" help:"Start the private PostgreSQL, print its URLs, stay until stopped."`
}

type devDBCmd struct{}

// Run starts the cluster, migrates, prints one URL a line, and stops on TERM or INT.
func (c *devDBCmd) Run(ctx context.Context, top *cli) error {
	in, err := devpg.Find(devpg.PartsDir())
	if err != nil {
		return err
	}
	cluster, err := devpg.Start(ctx, in, top.DataDir)
	if err != nil {
		return err
	}
	defer cluster.Stop()
	owner := cluster.URL("konstruct_owner", devpg.Database)
	if err := migrations.Up(ctx, owner, func(int) {}); err != nil {
		return err
	}
	fmt.Printf("KONSTRUCT_DATABASE_URL=%s\n", cluster.URL("konstruct_app", devpg.Database))
	fmt.Printf("KONSTRUCT_OWNER_DATABASE_URL=%s\n", owner)
	fmt.Printf("KONSTRUCT_NOTARY_DATABASE_URL=%s\n", cluster.URL("konstruct_notary", devpg.Database))
	fmt.Printf("KONSTRUCT_COMPLIANCE_DATABASE_URL=%s\n", cluster.URL("konstruct_compliance", devpg.Database))
	fmt.Printf("KONSTRUCT_SUPERUSER_DATABASE_URL=%s\n", cluster.SuperuserURL(devpg.Database))
	select {
	case <-ctx.Done():
		return nil
	case <-cluster.Exited():
		return fmt.Errorf("the private PostgreSQL stopped; its log is in %s", top.DataDir)
	}
}

type migrateCmd struct {
	Up migrateUpCmd `cmd:"" help:"Apply what is missing; adopt and seal what was there."`
}

type migrateUpCmd struct {
	URL string `name:"owner-database-url" help:"The schema owner's connection URL." env:"KONSTRUCT_OWNER_DATABASE_URL" required:""`
}

// Run applies the migrations and seals adopted events.
func (c *migrateUpCmd) Run(ctx context.Context) error {
	total := 0
	if err := migrations.Up(ctx, c.URL, func(n int) { total += n }); err != nil {
		return err
	}
	if total > 0 {
		fmt.Printf("sealed %d adopted events\n", total)
	}
	fmt.Println("the schema is up to date")
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var c cli
	k := kong.Parse(&c, kong.Name("konstruct"), kong.Description("An audit trail nobody can rewrite, and a knowledge base nobody else can read, for AI agents."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(&c))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "konstruct:", err)
		os.Exit(1)
	}
}
