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
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/completion"
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

	Init    initCmd       `cmd:"" group:"start" help:"Prepare your PostgreSQL and write the env file."`
	Demo    demoCmd       `cmd:"" group:"start" help:"See it work on sample documents."`
	Doctor  doctorCmd     `cmd:"" group:"start" help:"Check the role and the database."`
	Audit   auditCmd      `cmd:"" group:"trail" help:"Log, list, search, verify, export and erase events."`
	Verify  verifyCmd     `cmd:"" group:"trail" help:"Verify an evidence bundle, offline."`
	Notary  notaryCmd     `cmd:"" group:"trail" help:"Order events, sign checkpoints, publish the log."`
	KB      kbCmd         `cmd:"" group:"kb" name:"kb" help:"Ingest documents, search them, manage jobs."`
	Model   modelCmd      `cmd:"" group:"kb" help:"Fetch or import the local embedding model."`
	Serve   serveCmd      `cmd:"" group:"run" help:"Serve the HTTP API."`
	MCP     mcpCmd        `cmd:"" group:"run" name:"mcp" help:"Be an MCP server over stdio, and set up its clients."`
	Proxy   mcpProxyCmd   `cmd:"" group:"run" name:"mcp-proxy" help:"Record an MCP server's calls, over stdio."`
	Key     keyCmd        `cmd:"" group:"run" help:"Create, list, rotate and revoke API keys."`
	User    userCmd       `cmd:"" group:"run" help:"Add, list and remove users of the identity provider."`
	Webhook webhooksCmd   `cmd:"" group:"run" name:"webhooks" help:"Tell your endpoints what happens; dead letters."`
	Hook    hookCmd       `cmd:"" group:"run" help:"Record what a coding agent does, as its hook."`
	Capture captureCmd    `cmd:"" group:"run" help:"Try the ways by which agents reach a service."`
	Migrate migrateCmd    `cmd:"" group:"run" help:"Migrate the schema and show its version."`
	Config  configCmd     `cmd:"" group:"run" help:"Print the configuration and where it is from."`
	Dev     devCmd        `cmd:"" group:"dev" help:"Run a private database for development."`
	Bench   benchCmd      `cmd:"" group:"dev" help:"Measure against a baseline in the same run."`
	Version versionCmd    `cmd:"" group:"dev" help:"Print the version."`
	Shell   completionCmd `cmd:"" group:"shell" name:"completion" help:"Print the completion script of a shell."`
	Man     manCmd        `cmd:"" group:"shell" help:"Write manual pages."`
	Read    readFilesCmd  `cmd:"" name:"read-files" hidden:"" help:"Read files that standard input hands over."`
}

// app is what every command gets.
type app struct {
	*cli
	out, err io.Writer
	sources  map[string]string // setting → where its value is from
	envFile  string            // the env file that settings are from
	envErr   error             // why it could not be read

	settingFlags []*kong.Flag // the flags of settings
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
	if isHook(args) {
		return runHook(ctx, args[1:], stdout, stderr)
	}
	exited := -1
	args, all := parseHelp(args)
	none := len(args) == 0
	if none {
		args = []string{"--help"}
	}
	parser, err := a.newParser(ctx, all, func(n int) { exited = n })
	if err != nil {
		fmt.Fprintln(stderr, "konstruct:", err)
		return exitUsage
	}
	if len(args) > 0 && args[0] == completion.Command { // with no configuration: a wrong one would leave a shell silent
		if err := completion.Answer(stdout, parser.Model.Node, args[1:]); err != nil {
			return exitFailed
		}
		return 0
	}
	fail := func(err error) int {
		if child := childExit(0); errors.As(err, &child) {
			return int(child)
		}
		code := exitCode(err)
		var c coded
		if errors.As(err, &c) {
			code = c.code
		}
		text := strings.TrimPrefix(explainError(err), "konstruct: ") // the library's own prefix
		fmt.Fprintln(stderr, "konstruct:", text+a.fromEnvFile(code))
		return code
	}
	if err := checkArguments(args); err != nil {
		return fail(coded{err, exitUsage})
	}
	if err := a.configure(parser, args); err != nil {
		return fail(coded{err, exitUsage})
	}
	k, err := parser.Parse(args)
	if none {
		return exitUsage
	}
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		return fail(coded{fmt.Errorf("%w%s (see %s --help%s)", err, tenantHint(err), commandFailed(err),
			dashHint(args, err)), exitUsage})
	}
	if a.envErr != nil && !needsNoEnvFile(k.Command()) {
		return fail(coded{a.envErr, exitUsage})
	}
	a.noteSources(k)
	a.deriveURLs()
	if err := k.Run(); err != nil {
		return fail(err)
	}
	return 0
}

// checkArguments refuses arguments that are not UTF-8: the parser would replace what is wrong by U+FFFD.
func checkArguments(args []string) error {
	for i, arg := range args {
		if utf8.ValidString(arg) {
			continue
		}
		name, _, given := strings.Cut(arg, "=")
		switch {
		case given && strings.HasPrefix(name, "--"):
		case i > 0 && strings.HasPrefix(args[i-1], "--"):
			name = args[i-1]
		default:
			name = fmt.Sprintf("argument %d", i+1)
		}
		return fmt.Errorf("%s: %.100q is not UTF-8: nothing was done", name, arg)
	}
	return nil
}

// commandFailed is the command that a wrong command line was meant for, as far as it can be told.
func commandFailed(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context.Selected() != nil {
		return "konstruct " + commandOf(parse.Context.Selected())
	}
	return "konstruct"
}

// tenantHint says how the tenant of several commands is set.
func tenantHint(err error) string {
	if strings.HasPrefix(err.Error(), "missing flags") && strings.Contains(err.Error(), "--tenant") {
		return ", or KONSTRUCT_TENANT in the environment"
	}
	return ""
}

// description is what konstruct --help begins with.
const description = `An audit trail nobody can rewrite, and a knowledge base nobody else can read, for AI agents.

First steps:
  konstruct demo                    see it work
  konstruct init                    prepare your PostgreSQL
  konstruct kb ingest docs/ --tenant $T
  konstruct audit verify            verify every event against its seal and log
  konstruct notary run              sign checkpoints
  konstruct serve                   serve the API

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 no database, 5 permission denied.`

// newParser is the parser of the whole command line; all has help show the settings that all commands have, and exit
// is told the status that --help ends with.
func (a *app) newParser(ctx context.Context, all bool, exit func(int)) (*kong.Kong, error) {
	return kong.New(a.cli, kong.Name("konstruct"), kong.Description(description), kong.PostBuild(a.nameVariables),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(a),
		idMappers(), helpVars(), kong.Writers(a.out, a.err), kong.Exit(exit), kong.Help(a.helpPrinter(all)),
		kong.ExplicitGroups(commandGroups()),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}), kong.UsageOnError())
}

// helpVars are what ${…} stands for in the tags of commands and flags.
func helpVars() kong.Vars {
	return kong.Vars{"parts": devpg.AssetsDir(), "source": embed.Source, "version": version(),
		"benchmarks": benchmarks, "benchmarkNames": strings.ReplaceAll(benchmarks, ",", ", "),
		"mcpClients": mcpClientNames(), "mcpClientNames": strings.ReplaceAll(mcpClientNames(), ",", ", "),
		"permissions": defaultPermissions, "shells": completion.Shells,
		"roles": "viewer,auditor,operator,compliance,admin"}
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	if a.JSON {
		return a.json(map[string]string{"version": version()})
	}
	_, err := fmt.Fprintln(a.out, version())
	return err
}
