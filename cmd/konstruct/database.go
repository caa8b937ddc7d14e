package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/search"
)

// databaseURLs are the connection URLs of one database, by role; empty where there is none.
type databaseURLs struct {
	app, owner, notary, compliance, worker, superuser string

	private bool // they are of the private database
}

// database returns the URLs in force. With none set it is the private cluster, started or joined, and
// migrated; close ends what it started.
func (a *app) database(ctx context.Context) (u databaseURLs, done func(), err error) {
	u = databaseURLs{app: a.DatabaseURL, owner: a.OwnerDatabaseURL, notary: a.NotaryDatabaseURL,
		compliance: a.ComplianceDatabaseURL, worker: a.WorkerDatabaseURL, superuser: a.SuperuserDatabaseURL}
	if err := a.checkURLs(); err != nil {
		return u, nil, err
	}
	if u != (databaseURLs{}) {
		return u, func() {}, nil
	}
	for _, r := range a.roleURLs() {
		if r.password != "" {
			return u, nil, coded{fmt.Errorf("%s is set, and %s is not: set it to postgres://HOST:PORT/DATABASE",
				passwordSetting(r.setting), appSetting), exitUsage}
		}
	}
	which := "using the private database in"
	if !devpg.Exists(a.DataDir) {
		which = "making a new, empty database in"
	}
	fmt.Fprintf(a.err, "konstruct: no KONSTRUCT_DATABASE_URL is set: %s %s\n", which, a.DataDir)
	cluster, err := a.privateCluster(ctx)
	if err != nil {
		return u, nil, err
	}
	return clusterURLs(cluster), cluster.Stop, nil
}

func clusterURLs(c *devpg.Cluster) databaseURLs {
	role := func(name string) string { return c.URL(name, devpg.Database) }
	return databaseURLs{app: role("konstruct_app"), owner: role("konstruct_owner"), notary: role("konstruct_notary"),
		compliance: role("konstruct_compliance"), worker: role("konstruct_worker"),
		superuser: c.SuperuserURL(devpg.Database), private: true}
}

// privateCluster joins the cluster that runs in the data folder, or starts it, and migrates.
func (a *app) privateCluster(ctx context.Context) (*devpg.Cluster, error) {
	c, err := devpg.Running(ctx, a.DataDir)
	if err != nil {
		return nil, err
	}
	if c == nil {
		in, err := devpg.FindFor(a.AssetsDir, a.DataDir)
		if err != nil {
			return nil, err
		}
		if c, err = devpg.Start(ctx, in, a.DataDir); err != nil {
			return nil, err
		}
	}
	if err := a.prepareDatabase(ctx, clusterURLs(c)); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// prepareDatabase migrates a private database and installs the guard.
func (a *app) prepareDatabase(ctx context.Context, u databaseURLs) error {
	if err := a.migrateUp(ctx, u.owner); err != nil {
		return err
	}
	return migrations.Guard(ctx, u.superuser)
}

// requireURL returns the URL, or says which setting is missing.
func requireURL(url, setting, what string) (string, error) {
	if url == "" {
		return "", coded{fmt.Errorf("%s needs %s: set it to the connection URL of that role%s", what, setting,
			orPassword(setting)), exitUsage}
	}
	return url, nil
}

// orPassword says what is enough instead of a role's URL.
func orPassword(setting string) string {
	switch setting {
	case "KONSTRUCT_SUPERUSER_DATABASE_URL":
		return ""
	case appSetting:
		return ", or to one without a user, and " + passwordSetting(setting) + " to its password"
	}
	return ", or " + passwordSetting(setting) + " to its password beside " + appSetting
}

// open opens the library as konstruct_app, without the spool: that is one process's, and may be the service's.
// Calls fail here when the trail can't be written, whatever the policy says: a person sees it.
func (a *app) open(ctx context.Context) (*konstruct.Konstruct, func(), error) {
	return a.openWith(ctx, withoutSpool)
}

// withoutSpool is for commands that leave the spool alone.
func withoutSpool(*audit.Policy) bool { return false }

// openWith opens the library, with the spool that is set where spooled says so of the policy.
func (a *app) openWith(ctx context.Context, spooled func(*audit.Policy) bool) (*konstruct.Konstruct, func(), error) {
	c, err := a.trailConfig(spooled)
	if err != nil {
		return nil, nil, err
	}
	return a.openOn(ctx, c)
}

// trailConfig is how the trail is written, as openWith says.
func (a *app) trailConfig(spooled func(*audit.Policy) bool) (c konstruct.Config, err error) {
	if c.SpoolLimit, err = parseBytes("KONSTRUCT_SPOOL_LIMIT", a.SpoolLimit); err != nil {
		return c, err
	}
	if c.Policy, err = a.policy(); err != nil {
		return c, err
	}
	if !spooled(c.Policy) {
		c.Policy = c.Policy.AlwaysFail()
	} else {
		c.SpoolDir, err = a.needSpool()
	}
	return c, err
}

// openOn opens the library on the database in force, with what is configured beside c.
func (a *app) openOn(ctx context.Context, c konstruct.Config) (*konstruct.Konstruct, func(), error) {
	u, done, err := a.database(ctx)
	if err != nil {
		return nil, nil, err
	}
	k, err := a.connect(ctx, u, c)
	if err != nil {
		done()
		return nil, nil, err
	}
	return k, func() { _ = k.Close(); done() }, nil
}

// connect opens the library on a database, with what is configured beside c.
func (a *app) connect(ctx context.Context, u databaseURLs, c konstruct.Config) (k *konstruct.Konstruct, err error) {
	if c.DatabaseURL, err = requireURL(u.app, "KONSTRUCT_DATABASE_URL", "this command"); err != nil {
		return nil, err
	}
	if c.AllowNetworks, err = parseNetworks("KONSTRUCT_ALLOW_NETWORKS", a.AllowNetworks); err != nil {
		return nil, err
	}
	if c.WebhookNetworks, err = parseNetworks("KONSTRUCT_WEBHOOK_NETWORKS", a.WebhookNetworks); err != nil {
		return nil, err
	}
	if c.Receipts, err = a.keys().Read(); err != nil && !errors.Is(err, notary.ErrNoKey) {
		return nil, err
	}
	if c.Embedders, err = a.otherEmbedders(); err != nil {
		return nil, err
	}
	if c.ReadCommand, err = a.readCommand(); err != nil {
		return nil, err
	}
	if a.RerankURL != "" {
		c.Reranker = &embed.Reranker{URL: a.RerankURL, Key: a.RerankKey, Model: a.RerankModel,
			Client: &http.Client{Timeout: embedTime}}
	}
	c.AssetsDir, c.Embedder, c.Logger = a.AssetsDir, a.embedder(), slog.New(slog.NewTextHandler(a.err, nil))
	return konstruct.Open(ctx, c)
}

// embedTime bounds one request to an endpoint of models.
const embedTime = time.Minute

// embedder is the endpoint that is set, or nil for the local model.
func (a *app) embedder() embed.Embedder {
	if a.EmbedURL == "" {
		return nil
	}
	return &embed.Remote{BaseURL: a.EmbedURL, Key: a.EmbedKey, Model: a.EmbedModel,
		Client: &http.Client{Timeout: embedTime}}
}

// exitCode is the exit code of an error.
func exitCode(err error) int {
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28") ||
		errors.Is(err, devpg.ErrNotInstalled) {
		return exitNoDB
	}
	var parse *pgconn.ParseConfigError
	var query *search.QueryError
	var event *audit.FieldError
	var language *kb.LanguageError
	if errors.As(err, &parse) || errors.As(err, &query) || errors.As(err, &event) || errors.As(err, &language) {
		return exitUsage
	}
	return exitFailed
}

// explainError says what an error means for the person at the terminal, in one line, and what to run.
func explainError(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case pg.Code == "28P01" || pg.Code == "28000":
			return fmt.Sprintf(
				"the database refuses this role or its password (%s): check the connection URL's user and password",
				pg.Message)
		case pg.Code == "3D000":
			return fmt.Sprintf("%s: create it, or check the connection URL's last part", pg.Message)
		case pg.Code == "42P01" || pg.Code == "42883" || pg.Code == "42703":
			return fmt.Sprintf("the schema is older than this program (%s): run konstruct migrate up", pg.Message)
		case pg.Code == "53100" || pg.Code == "58030" || strings.HasPrefix(pg.Message, "could not extend file"):
			return fmt.Sprintf(
				"the database's disk is full (%s): nothing of this was stored; make room and run it again", pg.Message)
		case pg.Hint != "":
			return fmt.Sprintf("%v: %s", err, pg.Hint)
		}
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		where := net.JoinHostPort(connect.Config.Host, fmt.Sprint(connect.Config.Port))
		if pg != nil {
			return fmt.Sprintf("PostgreSQL at %s refuses the connection: %s", where, pg.Message)
		}
		return fmt.Sprintf("PostgreSQL does not answer at %s: start it, check the connection URL, or leave all URLs "+
			"unset to use the private database (%v)", where, rootCause(err))
	}
	var parse *pgconn.ParseConfigError
	text := printable(strings.ReplaceAll(err.Error(), "\n", " "))
	if errors.As(err, &parse) {
		text += ": write a connection URL as postgres://USER:PASSWORD@HOST:5432/DATABASE, and in a password " +
			"%40 for @, %2F for / and %25 for %"
	}
	return text
}

func rootCause(err error) error {
	for {
		if many, ok := err.(interface{ Unwrap() []error }); ok { // one for each address that was tried
			if all := many.Unwrap(); len(all) > 0 {
				err = all[len(all)-1]
				continue
			}
		}
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
