package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/konstruct/konstruct/capture"
)

// captureCmd groups what is about agents that send to a service.
type captureCmd struct {
	Doctor captureDoctorCmd `cmd:"" help:"Send one of each, and say what landed."`
}

type captureDoctorCmd struct {
	URL     string   `name:"url" help:"The service's address; $KONSTRUCT_URL, or this machine's." placeholder:"URL"`
	Key     string   `help:"A key; events:read and gateway:use help." env:"KONSTRUCT_KEY" placeholder:"KEY"`
	KeyFile string   `help:"File of the key." env:"KONSTRUCT_KEY_FILE" placeholder:"FILE"`
	Model   string   `help:"Model of the gateway's call; the first that it lists." placeholder:"NAME"`
	MCP     []string `name:"mcp" help:"Also call these servers of the MCP proxy." placeholder:"NAME"`
}

// Help is shown by --help.
func (captureDoctorCmd) Help() string {
	return "Sends one span, one log record, one call through the LLM gateway where it is configured, which may cost " +
		"a token, and one call through the MCP proxy for each --mcp, and looks for each on the trail, where they " +
		"stay. It fails if something that is configured did not land.\n\nExamples:\n\n" +
		"  konstruct capture doctor --key $KONSTRUCT_KEY\n" +
		"  konstruct capture doctor --mcp github --model gpt-5-mini"
}

// captureTime is how long all of it may take.
const captureTime = time.Minute

// Run tries each way and prints what landed.
func (c captureDoctorCmd) Run(ctx context.Context, a *app) error {
	var err error
	if c.Key, err = serviceKey(c.Key, c.KeyFile); err != nil {
		return err
	}
	if c.Key == "" {
		return coded{errors.New("which key? set KONSTRUCT_KEY or --key (konstruct key create makes one)"), exitUsage}
	}
	if c.URL == "" {
		c.URL = cmp.Or(os.Getenv("KONSTRUCT_URL"), "http://"+a.Listen)
	}
	ctx, cancel := context.WithTimeout(ctx, captureTime)
	defer cancel()
	checks := capture.Try(ctx, capture.Config{URL: c.URL, Key: c.Key, Model: c.Model, MCP: c.MCP,
		HTTP: &http.Client{}})
	failed := 0
	for _, check := range checks {
		if !check.OK && !check.Unset {
			failed++
		}
	}
	err = printTable(a, checks, []string{"", "WAY", "WHAT LANDED", "TRACE"}, func(c capture.Check) []string {
		mark := a.green("✓")
		switch {
		case c.Unset:
			mark = "-"
		case !c.OK:
			mark = a.red("✗")
		}
		return []string{mark, c.Way, c.Detail, c.Trace}
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d ways to the trail failed", failed, len(checks))
	}
	return err
}
