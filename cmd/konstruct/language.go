package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/konstruct/konstruct/kb"
)

type kbLanguageCmd struct {
	tenantFlag
	Language string `arg:"" optional:"" help:"Its name or code, as german or de; auto follows the documents."`
}

// Help is shown by --help.
func (kbLanguageCmd) Help() string {
	return "A document is read in the language that it states, or that its text is evidently in. Else it is the " +
		"tenant's default one: what is set here, or that of most documents. What is stored already stays as it " +
		"was read.\n\nExample:\n\n  konstruct kb language german --tenant $T"
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
		err := documents.SetLanguage(ctx, language)
		if unknown := (*kb.LanguageError)(nil); errors.As(err, &unknown) {
			return coded{err, exitUsage}
		} else if err != nil {
			return err
		}
	}
	language, err := documents.Language(ctx)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(map[string]string{"language": language})
	}
	_, err = fmt.Fprintln(a.out, language)
	return err
}
