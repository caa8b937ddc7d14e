package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/client"
)

// captureFlags are those of programs that run beside an agent: they send events to a service, or keep them in a spool
// that many of them share.
type captureFlags struct {
	URL        string    `name:"url" help:"The service's address." env:"KONSTRUCT_URL" placeholder:"URL"`
	Key        string    `help:"Its key, with events:write." env:"KONSTRUCT_KEY" placeholder:"KEY"`
	KeyFile    string    `help:"File of the key." env:"KONSTRUCT_KEY_FILE" placeholder:"FILE"`
	CaptureDir string    `help:"Folder of events that wait." env:"KONSTRUCT_CAPTURE_DIR" placeholder:"DIR"`
	Rules      string    `help:"File of further rules on tools." env:"KONSTRUCT_TOOL_RULES_FILE" placeholder:"FILE"`
	Agent      uuid.UUID `help:"The agent's UUID." env:"KONSTRUCT_AGENT" placeholder:"UUID"`
	User       string    `help:"The user on whose behalf it works." env:"KONSTRUCT_USER" placeholder:"NAME"`

	WhenUnwritable string `help:"fail or go_on where a call can't be recorded." enum:"fail,go_on" default:"fail"`
}

// openClient opens the client of the service, or of the spool alone.
func (f captureFlags) openClient(a *app, program string, logger *slog.Logger) (*client.Client, error) {
	c := client.Config{URL: f.URL, Key: f.Key, SpoolDir: f.CaptureDir, RulesFile: f.Rules, AgentID: f.Agent,
		UserID: f.User, UserAgent: program, Logger: logger, FailClosed: f.WhenUnwritable == "fail"}
	var err error
	if c.Key, err = serviceKey(f.Key, f.KeyFile); err != nil {
		return nil, err
	}
	if a.RedactKeyFile != "" {
		raw, err := readSmallFile(a.RedactKeyFile, maxKey)
		if err != nil {
			return nil, coded{fmt.Errorf("KONSTRUCT_REDACT_KEY_FILE: %w", err), exitUsage}
		}
		c.RedactKey = raw
	}
	if c.SpoolDir == "" {
		if c.SpoolDir, err = captureDir(); err != nil {
			return nil, coded{fmt.Errorf("KONSTRUCT_CAPTURE_DIR: %w", err), exitUsage}
		}
	}
	k, err := client.Open(c)
	if err != nil {
		return nil, coded{err, exitUsage}
	}
	return k, nil
}

// serviceKey returns a service's key: as it is given, or its file's.
func serviceKey(key, file string) (string, error) {
	if key != "" || file == "" {
		return key, nil
	}
	raw, err := readSmallFile(file, maxConfig)
	if err != nil {
		return "", coded{fmt.Errorf("KONSTRUCT_KEY_FILE: %w", err), exitUsage}
	}
	return strings.TrimSpace(string(raw)), nil
}

// captureDir is where events wait by default: state of the user's programs (XDG Base Directory).
func captureDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "konstruct", "capture"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "konstruct", "capture"), nil
}
