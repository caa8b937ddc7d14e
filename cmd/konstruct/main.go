// Command konstruct is the audit trail and knowledge base for AI agents, in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
)

// The exit codes, which docs/cli.md explains.
const (
	exitFailed  = 1 // a check failed, or the command did
	exitUsage   = 2 // the command line or the configuration is wrong
	exitPartial = 3 // some files were ingested, some were not
	exitNoDB    = 4 // the database can't be reached, or refuses us
	exitDenied  = 5 // init lacks privileges: a database administrator has to run what is shown
)

// coded is an error with its exit code.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

type cli struct {
	settings
	JSON        bool             `help:"Print JSON instead of tables for people."`
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Init    initCmd      `cmd:"" help:"Prepare your PostgreSQL: roles, database, schema, guard, and the env file."`
	Serve   serveCmd     `cmd:"" help:"Serve the HTTP API."`
	Key     keyCmd       `cmd:"" help:"Keys for programs that come over the network."`
	User    userCmd      `cmd:"" help:"People whom an identity provider knows, and their roles."`
	Demo    demoCmd      `cmd:"" help:"See it work: tenants, documents, questions, and the trail that proves them."`
	Dev     devCmd       `cmd:"" help:"For development: a private database."`
	Migrate migrateCmd   `cmd:"" help:"The schema: bring it up to date, look at it."`
	Doctor  doctorCmd    `cmd:"" help:"Check that this role and this database hold the promises."`
	Audit   auditCmd     `cmd:"" help:"The audit trail: list, show, log, follow, verify."`
	Notary  notaryCmd    `cmd:"" help:"The notary: puts events in order, signs checkpoints, keeps keys."`
	Verify  verifyCmd    `cmd:"" help:"Verify an evidence bundle, offline."`
	KB      kbCmd        `cmd:"" name:"kb" help:"The knowledge base: take files in, search, list."`
	Read    readFilesCmd `cmd:"" name:"read-files" hidden:"" help:"Read files that standard input hands over."`
	Model   modelCmd     `cmd:"" help:"The local embedding model: bring it here."`
	Bench   benchCmd     `cmd:"" help:"Measure against a baseline in the same run."`
	Config  configCmd    `cmd:"" help:"Print the configuration in force and where each value is from."`
	Version versionCmd   `cmd:"" help:"Print the version."`
}

// app is what every command gets.
type app struct {
	*cli
	out, err io.Writer
	sources  map[string]string // setting → where its value is from
	envFile  string            // the env file that settings are from
	envErr   error             // why it could not be read
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	var c cli
	a := &app{cli: &c, out: stdout, err: stderr}
	exited := -1
	args, all := parseHelp(args)
	parser, err := kong.New(&c, kong.Name("konstruct"),
		kong.Description("An audit trail nobody can rewrite, and a knowledge base nobody else can read, for AI agents.\n\nFirst steps:\n  konstruct demo                    see it work\n  konstruct init                    prepare your PostgreSQL\n  konstruct kb ingest docs/ --tenant $T\n  konstruct audit verify            hold every event against its seal and its log\n  konstruct notary run              sign checkpoints\n  konstruct serve                   serve the API\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 no database, 5 permission denied."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(a), kong.Vars{"parts": devpg.AssetsDir(), "source": embed.Source, "version": version()}, kong.Writers(stdout, stderr), kong.Exit(func(n int) { exited = n }),
		kong.Help(helpPrinter(all)), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}), kong.UsageOnError())
	if err != nil {
		fmt.Fprintln(stderr, "konstruct:", err)
		return exitUsage
	}
	fail := func(err error) int {
		code := exitCode(err)
		var c coded
		if errors.As(err, &c) {
			code = c.code
		}
		text := strings.TrimPrefix(explainError(err), "konstruct: ") // the library's own prefix
		fmt.Fprintln(stderr, "konstruct:", text+a.fromEnvFile(code))
		return code
	}
	if err := a.configure(parser, args); err != nil {
		return fail(coded{err, exitUsage})
	}
	k, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		return fail(coded{fmt.Errorf("%w (see konstruct --help)", err), exitUsage})
	}
	if a.envErr != nil && !needsNoEnvFile(k.Command()) {
		return fail(coded{a.envErr, exitUsage})
	}
	a.noteSources(k)
	if err := k.Run(); err != nil {
		return fail(err)
	}
	return 0
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.out, version())
	return err
}
