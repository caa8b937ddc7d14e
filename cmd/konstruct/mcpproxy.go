package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/mcpproxy"
)

// mcpProxyCmd stands between an MCP client and a server over stdio.
type mcpProxyCmd struct {
	captureFlags
	Server       string    `help:"The server's name in rules and records; its command's by default." placeholder:"NAME"`
	Tenant       uuid.UUID `help:"Without a service: the tenant." env:"KONSTRUCT_TENANT" placeholder:"UUID"`
	Conversation string    `help:"Conversation of calls that name no trace; one of this run." placeholder:"ID"`
	Command      []string  `arg:"" help:"The server's command and its arguments, behind --."`
}

// Help is shown by --help.
func (mcpProxyCmd) Help() string {
	return "Put it before the server's command in the client's configuration. Frames pass unchanged; each call is an " +
		"event before the client gets its result. Events go to a service, or to a database (--tenant), or wait. The " +
		"exit code is the server's. docs/mcp-proxy.md says more.\n\nExamples:\n\n" +
		"  konstruct mcp-proxy -- npx -y @modelcontextprotocol/server-filesystem ~/notes\n" +
		"  konstruct mcp-proxy --server files --rules rules.json -- uvx mcp-server-git"
}

// childExit is the exit code of a program that a command ran for its user.
type childExit int

// Error implements error.
func (c childExit) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Run passes frames until the server ends.
func (c mcpProxyCmd) Run(ctx context.Context, a *app) (err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx = context.WithoutCancel(ctx) // the server ends by the signal itself, and then the proxy
	logger := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p := mcpproxy.Stdio{Command: c.Command, Env: mcpproxy.ServerEnvironment(os.Environ()), In: os.Stdin, Out: a.out,
		Err: a.err, Signals: signals}
	if _, err := exec.LookPath(c.Command[0]); err != nil {
		return coded{fmt.Errorf("the server's command %q can't be run: %w", c.Command[0], err), exitUsage}
	}
	name := strings.TrimSuffix(filepath.Base(c.Command[0]), ".exe")
	p.Config = mcpproxy.Config{Server: cmp.Or(c.Server, name), AgentID: c.Agent, UserID: c.User, Logger: logger,
		Conversation: c.Conversation}
	if p.Conversation == "" {
		p.Conversation = uuid.NewString()
	}
	trail, done, err := c.trail(ctx, a, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	p.Trail, p.Decide = trail.to, trail.decide
	code, err := p.Run(ctx)
	if err != nil {
		return coded{err, exitUsage}
	}
	if code != 0 {
		return childExit(code)
	}
	return nil
}

// mcpTrail is where a proxy's events go, and where its rules are from.
type mcpTrail struct {
	to     mcpproxy.Trail
	decide decideFunc
}

// trail is the service's, a database's, or a spool's.
func (c mcpProxyCmd) trail(
	ctx context.Context,
	a *app,
	logger *slog.Logger,
) (t mcpTrail, done func() error, err error) {
	if c.URL == "" && c.Tenant != uuid.Nil && (a.DatabaseURL != "" || devpg.Exists(a.DataDir)) {
		k, done, err := a.openWith(ctx, func(p *audit.Policy) bool { return a.SpoolDir != "" || p.Continues() })
		if err != nil {
			return t, nil, err
		}
		tenant := k.Tenant(c.Tenant)
		return mcpTrail{libraryTrail{tenant, operatorName()}, tenant.ToolRules().Decide}, func() error {
			done()
			return nil
		}, nil
	}
	if err := client.CheckRules(c.Rules); err != nil {
		return t, nil, coded{fmt.Errorf("KONSTRUCT_TOOL_RULES_FILE: %w", err), exitUsage}
	}
	k, err := c.openClient(a, "konstruct-mcp-proxy", logger)
	if err != nil {
		return t, nil, err
	}
	if c.URL == "" {
		fmt.Fprintln(a.err, "konstruct: no service is set (KONSTRUCT_URL): events wait on this machine")
	}
	s, err := newSpooledTrail(ctx, k, c.captureFlags, logger)
	if err != nil {
		return t, nil, err
	}
	return mcpTrail{s, s.decide}, s.close, nil
}
