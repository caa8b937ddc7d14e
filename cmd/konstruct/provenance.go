package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
)

type auditRetrievalCmd struct {
	tenantFlag
	Event uuid.UUID `arg:"" help:"The event of the search: what kb search ends with."`
	Texts string    `help:"Write the unchanged texts into this folder, by rank." placeholder:"DIR" type:"path"`
}

// Help is shown by --help.
func (auditRetrievalCmd) Help() string {
	return "The event names each passage by its id and the SHA-256 of its text, so what is shown here as the same is " +
		"the very text that the agent was given. konstruct audit evidence takes the event into a bundle: whoever " +
		"holds that and the text can compare one with the other (konstruct-verify --text).\n\nExample:\n\n  " +
		"konstruct audit explain --tenant $T 01890a5d-ac96-774b-bcce-b302099a8057"
}

// Run explains.
func (c auditRetrievalCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := k.Tenant(c.Tenant).Events().CheckRetrieval(ctx, c.Event)
	if err != nil {
		return err
	}
	if c.Texts != "" {
		if err := os.MkdirAll(c.Texts, 0o700); err != nil {
			return err
		}
		for _, p := range s.Passages {
			if p.State != konstruct.Unchanged {
				continue
			}
			if err := os.WriteFile(filepath.Join(c.Texts, fmt.Sprintf("%03d.txt", p.Rank)), []byte(p.Content),
				0o600); err != nil {
				return err
			}
		}
	}
	if a.JSON {
		return a.json(s)
	}
	question := ""
	if s.Event.Input != nil {
		question = *s.Event.Input
	}
	how := s.Options.Mode
	for _, part := range []string{s.Options.Tier, s.Model, s.Options.Reranker, s.Options.Fallback} {
		if part != "" {
			how += ", " + part
		}
	}
	fmt.Fprintf(a.out, "%s\n%s, %s\n", a.bold(printable(question)),
		s.Event.CreatedAt.UTC().Format("2006-01-02 15:04:05 MST"), printable(how))
	for _, part := range []struct {
		name  string
		value any
	}{{"conditions", s.Options.Where}, {"filter", s.Options.Filter},
		{"words corrected", s.Options.Corrections}} {
		if raw, err := json.Marshal(part.value); err == nil && part.value != nil {
			fmt.Fprintf(a.out, "%s: %s\n", part.name, printable(string(raw)))
		}
	}
	if len(s.Options.Labels) > 0 {
		fmt.Fprintf(a.out, "labels: %s\n", printable(strings.Join(s.Options.Labels, ", ")))
	}
	for _, p := range s.Passages {
		state := a.green("as it was shown")
		switch p.State {
		case konstruct.Changed:
			state = a.red("changed since: what was shown is not stored any more")
		case konstruct.Deleted:
			state = a.red("gone: what was shown is not stored any more")
		case konstruct.Hidden:
			state = a.red("hidden: its document has labels")
		}
		if p.Version > 0 && p.CurrentVersion != p.Version {
			state += fmt.Sprintf(", of version %d; ", p.Version)
			if p.CurrentVersion == 0 {
				state += "the document is gone"
			} else {
				state += fmt.Sprintf("the document stands at %d", p.CurrentVersion)
			}
		}
		where := p.Headings
		if p.Filename != "" {
			where = append([]string{p.Filename}, where...)
		}
		fmt.Fprintf(a.out, "%d. score %.3f  %s  %s\n   passage %s, sha256 %s\n", p.Rank, p.Score, state,
			printable(strings.Join(where, " › ")), p.ChunkID, p.SHA256)
		if p.State == konstruct.Unchanged {
			for _, l := range wrap(printable(oneLine(p.Content, 2000)), 100) {
				fmt.Fprintf(a.out, "   %s\n", l)
			}
		}
	}
	return nil
}
