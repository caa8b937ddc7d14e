package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/plural"
)

// otherEmbedders are the further endpoints that are set.
func (a *app) otherEmbedders() (all []embed.Embedder, err error) {
	for s := range strings.SplitSeq(a.EmbedAlso, ",") {
		f := strings.Fields(s)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, coded{fmt.Errorf("KONSTRUCT_EMBED_ALSO: %.100q is not MODEL DIMENSIONS URL", s), exitUsage}
		}
		n, err := strconv.Atoi(f[1])
		if err != nil || n < 1 || n > 16000 {
			return nil, coded{fmt.Errorf("KONSTRUCT_EMBED_ALSO: %s has %.20q dimensions: it is 1 to 16000", f[0], f[1]),
				exitUsage}
		}
		all = append(all,
			&embed.Remote{BaseURL: f[2], Key: a.EmbedKey, Model: f[0], Length: n,
				Client: &http.Client{Timeout: embedTime}})
	}
	return all, nil
}

type kbReembedCmd struct {
	tenantFlag
	agentFlag
	Model string `help:"The model, one of KONSTRUCT_EMBED_ALSO." placeholder:"NAME" xor:"what"`
	Build bool   `help:"With --model: only make the vectors, and leave searches as they are."`
	Back  bool   `help:"Search by the first model again, whose vectors are always there." xor:"what"`
	Drop  string `help:"Delete the vectors of a model that does not serve." placeholder:"NAME" xor:"what"`
}

// Help is shown by --help.
func (kbReembedCmd) Help() string {
	return "Searches and ingests go on meanwhile; killed, it goes on where it was. The switch is one transaction, " +
		"and an event.\n\nExample:\n\n  KONSTRUCT_EMBED_ALSO=\"text-embedding-3-small 1536 " +
		"https://api.openai.com/v1\" konstruct kb reembed --tenant $T --model text-embedding-3-small"
}

// maxRounds is how often passages added meanwhile are embedded; then another run is needed.
const maxRounds = 10

// Run embeds again, or goes back.
func (c kbReembedCmd) Run(ctx context.Context, a *app) error {
	if c.Model == "" && !c.Back && c.Drop == "" {
		return coded{errors.New("say what: --model NAME, --back or --drop NAME"), exitUsage}
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	if c.Drop != "" {
		if err := k.Tenant(c.Tenant).Models().Delete(ctx, c.Drop); err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.out, "dropped", c.Drop)
		return err
	}
	agent := c.agent(k.Tenant(c.Tenant), c.Tenant)
	for round := 0; ; round++ {
		if c.Model != "" {
			p := a.newProgress("embedding", "passages", 0)
			n := int64(0)
			err := agent.Reembed(ctx, c.Model, func(more int) { n += int64(more); p.set(n, n, n) })
			p.done()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s embedded with %s\n", plural.Of(n, "passage", "passages"), c.Model)
			if c.Build {
				return nil
			}
		}
		event, err := agent.ServeModel(ctx, c.Model)
		if errors.Is(err, kb.ErrIncomplete) && c.Model != "" && round < maxRounds {
			continue // some were added meanwhile
		}
		if err != nil {
			return err
		}
		name := c.Model
		if name == "" {
			name = "the first model"
		}
		_, err = fmt.Fprintf(a.out, "searches are by %s from now on, event %s\n", name, event)
		return err
	}
}

type kbModelsCmd struct{ tenantFlag }

// Run lists models.
func (c kbModelsCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	models, err := k.Tenant(c.Tenant).Models().List(ctx)
	if err != nil {
		return err
	}
	if models == nil {
		models = []kb.Model{}
	}
	return printTable(a, models, []string{"MODEL", "DIMENSIONS", "VECTORS", "MISSING", "SERVES"},
		func(m kb.Model) []string {
			serves := ""
			if m.Serving {
				serves = "since " + m.ServedAt.UTC().Format("2006-01-02 15:04")
			}
			return []string{m.Name, fmt.Sprint(m.Dimensions), fmt.Sprint(m.Vectors), fmt.Sprint(m.Missing), serves}
		})
}
