package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/provision"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

type initCmd struct {
	Database       string `help:"Name of the database." default:"konstruct" placeholder:"NAME"`
	Address        string `help:"HOST:PORT where the roles connect; where the superuser does." placeholder:"ADDR"`
	ResetPasswords bool   `help:"Draw new passwords for roles that exist; whoever uses the old ones is refused."`
	Guard          bool   `help:"Install the guard against DDL, as a superuser." default:"true" negatable:""`
	PrintSQL       bool   `name:"print-sql" help:"Print a psql script for an administrator instead."`
}

// Help is shown by --help.
func (initCmd) Help() string {
	return "Creates roles, database, extension, schema and guard on PostgreSQL 15 or newer with pgvector, and writes " +
		"the database's URL and the roles' passwords into konstruct.env (--env-file), which every command reads. " +
		"--superuser-database-url says where, as whom; --notary-name names the audit logs, for good. A second run " +
		"changes nothing. Exit code 5: a database administrator has to run the statements that are shown." +
		"\n\nExamples:\n\n" +
		"  konstruct init --superuser-database-url postgres://postgres:$PW@db:5432/postgres \\\n" +
		"    --notary-name example.com/audit\n" +
		"  sudo -u postgres konstruct init --superuser-database-url 'host=/run/postgresql'\n" +
		"  konstruct init --print-sql --address db:5432 > init.sql"
}

const needsDenied = "needs what was denied"

var databaseName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)

// initRun is one run of init.
type initRun struct {
	*app
	cmd    initCmd
	server *provision.Server
	env    *initEnv
	steps  []provision.Step
}

func (r *initRun) add(s provision.Step) { r.steps = append(r.steps, s) }

// Run prepares the server.
func (c initCmd) Run(ctx context.Context, a *app) error {
	if !databaseName.MatchString(c.Database) {
		return coded{fmt.Errorf("--database %q: a name has up to 63 letters, digits, _ and -, and begins with a letter",
			c.Database), exitUsage}
	}
	path := cmp.Or(a.EnvFile, defaultEnvFile)
	env, err := openInitEnv(path)
	if err != nil {
		return err
	}
	if c.PrintSQL {
		return a.printInitSQL(ctx, c, env)
	}
	adminURL := a.SuperuserDatabaseURL
	if adminURL == "" {
		return coded{errors.New("init needs --superuser-database-url: the connection URL of a superuser of your " +
			"PostgreSQL, as postgres://postgres:PASSWORD@HOST:5432/postgres"), exitUsage}
	}
	if err := checkURL("--superuser-database-url", adminURL); err != nil {
		return err
	}
	a.envFile = "" // the superuser's URL is none of the env file's
	s, err := provision.Connect(ctx, adminURL, c.Address, c.Database)
	if err != nil {
		return initConnectError(err)
	}
	defer s.Close()
	r := &initRun{app: a, cmd: c, server: s, env: env}
	err = r.provision(ctx)
	return r.report(err)
}

// initConnectError says what to do where the server does not answer; init has no private database to fall back on.
func initConnectError(err error) error {
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, provision.ErrURL):
		return coded{err, exitUsage}
	case errors.As(err, &connect) && !errors.As(err, &pg):
		where := net.JoinHostPort(connect.Config.Host, fmt.Sprint(connect.Config.Port))
		return coded{fmt.Errorf("PostgreSQL does not answer at %s (%v): start it, or check --superuser-database-url",
			where, rootCause(err)), exitNoDB}
	}
	return err
}

// provision does what is missing, in an order in which each step finds what it needs.
func (r *initRun) provision(ctx context.Context) error {
	if err := r.env.belongs(ctx, r.server.Target, r.server.Cluster); err != nil {
		return err
	}
	states, err := r.server.Roles(ctx)
	if err != nil {
		return err
	}
	roles, err := r.planRoles(ctx, r.server.Target, states, r.env, r.cmd.ResetPasswords)
	if err != nil {
		return err
	}
	envStep := r.envStep()
	r.setFolders()
	if err := r.checkName(); err != nil {
		return err
	}
	defer func() { r.add(envStep()) }()
	r.env.mark(r.server.Cluster, r.cmd.Database)
	if err := r.ensureRoles(ctx, roles); err != nil {
		return err
	}
	if err := r.ensureDatabase(ctx); err != nil {
		return err
	}
	return r.ensureKeys()
}

// ensureDatabase creates the database and what is in it. What needs a step that was denied is left.
func (r *initRun) ensureDatabase(ctx context.Context) error {
	rest := []string{"database " + r.cmd.Database, "extension vector", "schema", "guard against DDL"}
	owner, appURL := r.env.url(migrations.Owner), r.env.url(appRole)
	for i, ensure := range []func() (provision.Step, error){
		func() (provision.Step, error) { return r.server.EnsureDatabase(ctx) },
		func() (provision.Step, error) { return r.server.EnsureExtension(ctx, owner) },
		func() (provision.Step, error) { return r.ensureSchema(ctx, owner) },
		func() (provision.Step, error) { return r.ensureGuard(ctx, appURL) },
	} {
		if r.denied() {
			r.add(provision.Step{Name: rest[i], State: provision.Skipped, Detail: needsDenied})
			continue
		}
		step, err := ensure()
		if err != nil {
			return err
		}
		r.add(step)
	}
	return nil
}

// ensureSchema does what migrate up does.
func (r *initRun) ensureSchema(ctx context.Context, owner string) (provision.Step, error) {
	step := provision.Step{Name: "schema", State: provision.Exists, Detail: fmt.Sprintf("version %d", tenantdb.Schema)}
	n, err := provision.Pending(ctx, owner)
	if err != nil {
		return step, err
	}
	if n > 0 {
		step.State = provision.Created
	}
	return step, r.migrateUp(ctx, owner) // with none pending it seals what a run that was killed left
}

// ensureGuard does what migrate guard does.
func (r *initRun) ensureGuard(ctx context.Context, appURL string) (provision.Step, error) {
	if !r.cmd.Guard {
		return provision.Step{Name: "guard against DDL", State: provision.Skipped,
			Detail: "--no-guard: konstruct doctor says what changes"}, nil
	}
	step, err := r.server.EnsureGuard(ctx, appURL)
	if err == nil && step.State == provision.Created {
		r.noteRecord(ctx, appURL, audit.ActionGuard, map[string]any{"schema": tenantdb.Schema})
	}
	return step, err
}

// setFolders has every command use one data folder, wherever it is run. It is not the one of the private cluster:
// what a notary keeps beside its key is of one database.
func (r *initRun) setFolders() {
	if from := r.sources["KONSTRUCT_DATA_DIR"]; from != "environment" && from != "--data-dir" {
		r.DataDir = filepath.Join(filepath.Dir(r.env.path), r.cmd.Database+"-data")
	}
	if dir, err := filepath.Abs(r.DataDir); err == nil {
		r.DataDir = dir
	}
	if r.env.values["KONSTRUCT_DATA_DIR"] == "" {
		r.env.set("KONSTRUCT_DATA_DIR", r.DataDir)
	}
	r.DataDir = r.env.values["KONSTRUCT_DATA_DIR"]
	if r.NotaryName != "" {
		r.env.set("KONSTRUCT_NOTARY_NAME", r.NotaryName)
	}
}
