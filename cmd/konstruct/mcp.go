package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/mcpserver"
)

type mcpCmd struct {
	Stdio   mcpStdioCmd   `cmd:"" default:"withargs" help:"Serve one client over stdio (the default)."`
	Install mcpInstallCmd `cmd:"" help:"Print a client's configuration, or write it."`
}

// Help is shown by --help.
func (mcpCmd) Help() string {
	return "A client starts it and speaks MCP with it. With --url it passes messages on to a service's /mcp; " +
		"else it is " +
		"the server itself, on a tenant's database. docs/mcp.md lists its tools.\n\nExamples:\n\n" +
		"  konstruct mcp --url http://127.0.0.1:7117 --key-file konstruct.key\n" +
		"  konstruct mcp --tenant $T\n" +
		"  konstruct mcp install claude-code --url http://127.0.0.1:7117\n" +
		"  konstruct mcp install cursor --tenant $T --write"
}

// mcpFlags say whose tools a client gets.
type mcpFlags struct {
	URL     string    `name:"url" help:"The service's address." env:"KONSTRUCT_URL" placeholder:"URL"`
	KeyFile string    `help:"File of its key." env:"KONSTRUCT_KEY_FILE" placeholder:"FILE"`
	Tenant  uuid.UUID `help:"Without a service: the tenant." env:"KONSTRUCT_TENANT" placeholder:"UUID"`
	Agent   uuid.UUID `help:"The agent that acts." env:"KONSTRUCT_AGENT" placeholder:"UUID"`
	User    string    `help:"The user on whose behalf." env:"KONSTRUCT_USER" placeholder:"NAME"`
}

// service returns the service's address.
func (f mcpFlags) service() (*url.URL, error) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_URL: %.100q is no address of a service, as http://127.0.0.1:7117",
			f.URL), exitUsage}
	}
	return u, nil
}

type mcpStdioCmd struct {
	mcpFlags
	Key          string `help:"The service's key." env:"KONSTRUCT_KEY" placeholder:"KEY"`
	Conversation string `help:"Conversation of calls that name none; one of this run." placeholder:"ID"`
}

// Help is shown by --help.
func (mcpStdioCmd) Help() string { return mcpCmd{}.Help() }

// Run serves until the client ends the stream.
func (c mcpStdioCmd) Run(ctx context.Context, a *app) error {
	if c.Conversation == "" {
		c.Conversation = uuid.NewString()
	}
	if c.URL != "" {
		return c.bridge(ctx, a)
	}
	if c.Tenant == uuid.Nil {
		return coded{errors.New(
			"nothing to serve: give a service (--url, KONSTRUCT_URL) and its key, or a tenant of a " +
				"database (--tenant, KONSTRUCT_TENANT)"), exitUsage}
	}
	return c.serve(ctx, a)
}

// bridge passes messages on to a service.
func (c mcpStdioCmd) bridge(ctx context.Context, a *app) error {
	at, err := c.service()
	if err != nil {
		return err
	}
	key, err := serviceKey(c.Key, c.KeyFile)
	if err != nil {
		return err
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return coded{errors.New("the service needs a key (KONSTRUCT_KEY, KONSTRUCT_KEY_FILE): konstruct key create " +
			"NAME --permission kb:read"), exitUsage}
	}
	h := http.Header{"User-Agent": {"konstruct-mcp/" + version()}, gateway.ConversationHeader: {c.Conversation}}
	if c.Agent != uuid.Nil {
		h.Set(gateway.AgentHeader, c.Agent.String())
	}
	if c.User != "" {
		h.Set(gateway.UserHeader, c.User)
	}
	b := mcpserver.Bridge{URL: at, Key: key, Header: h, Client: &http.Client{Timeout: mcpserver.BridgeTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	return b.Run(ctx, os.Stdin, a.out)
}

// serve is the server itself, for who may open the database.
func (c mcpStdioCmd) serve(ctx context.Context, a *app) error {
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	trail, err := a.trailConfig(withoutSpool)
	if err != nil {
		return err
	}
	k, err := a.connect(ctx, u, trail)
	if err != nil {
		return err
	}
	defer k.Close()
	config := mcpserver.Config{Konstruct: k, Floor: a.RetentionFloor, Version: version(), Stopping: ctx,
		Explain: func(_ context.Context, err error) string { return explainError(err) },
		Logger:  slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if u.notary != "" {
		office, closeOffice, err := a.openNotaryOn(ctx, u, "mcp")
		if err != nil {
			return err
		}
		defer closeOffice()
		config.Evidence, config.Anchor = office.DB, office.Anchor
	}
	caller := mcpserver.Caller{Principal: access.LocalOperator(c.Tenant, operatorName()),
		AgentID: agentFlag{c.Agent}.id(c.Tenant), UserID: c.User, Conversation: c.Conversation, Transport: "pipe"}
	return mcpserver.New(config).ServeStdio(ctx, caller, os.Stdin, a.out)
}
