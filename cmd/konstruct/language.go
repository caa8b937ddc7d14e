package main

import (
	"context"
	"fmt"

	"github.com/konstruct/konstruct/plural"
)

type kbLanguageCmd struct {
	tenantFlag
	Language string `arg:"" optional:"" help:"Its name or code, as german or de; auto follows the documents."`
	Reread   bool   `help:"Read what is stored again, as if it were ingested now."`
}

// Help is shown by --help.
func (kbLanguageCmd) Help() string {
	return "A document is read in the language that it states, or that its text is evidently in. Else it is the " +
		"tenant's default one: what is set here, or that of most documents. What is stored already stays as it " +
		"was read, or is read again with --reread; kb show has the language. Chinese, Japanese, Thai and others " +
		"without spaces are recognized, and have none to set.\n\nExamples:\n\n" +
		"  konstruct kb language --tenant $T\n" +
		"  konstruct kb language german --reread --tenant $T"
}

// Run sets or shows the language.
func (c kbLanguageCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	documents := k.Tenant(c.Tenant).Documents()
	if c.Language != "" {
		language := c.Language
		if language == "auto" {
			language = ""
		}
		if err := documents.SetLanguage(ctx, language); err != nil {
			return err
		}
	}
	reread := 0
	if c.Reread {
		p := a.newProgress("reading again", "documents", 0)
		n := int64(0)
		reread, err = documents.RereadLanguages(ctx, func(more int) { n += int64(more); p.set(n, n, n) })
		if p.done(); err != nil {
			return err
		}
	}
	language, err := documents.Language(ctx)
	if err != nil {
		return err
	}
	if a.JSON {
		out := map[string]any{"language": language}
		if c.Reread {
			out["reread"] = reread
		}
		return a.json(out)
	}
	if c.Reread {
		fmt.Fprintf(a.out, "%s in another language now\n", plural.Of(reread, "document is read", "documents are read"))
	}
	_, err = fmt.Fprintln(a.out, language)
	return err
}
