package main

import (
	"strings"

	"github.com/alecthomas/kong"

	"github.com/konstruct/konstruct/internal/manpage"
)

type manCmd struct {
	Dir string `required:"" help:"Folder that the pages are written into." placeholder:"DIR"`
}

// Help is shown by --help.
func (manCmd) Help() string {
	return "Writes konstruct.1 and a page for each command, as konstruct-kb-ingest.1, in man's own format.\n\n" +
		"Example:\n\n  konstruct man --dir ~/.local/share/man/man1"
}

// Run writes the pages.
func (c manCmd) Run(a *app, k *kong.Kong) error {
	names, err := a.manual(k).Write(c.Dir)
	if err != nil {
		return err
	}
	return a.result(map[string]any{"dir": c.Dir, "pages": names}, "%d pages are in %s: man konstruct\n", len(names),
		c.Dir)
}

// manual is what manual pages are written from.
func (a *app) manual(k *kong.Kong) manpage.Book {
	return manpage.Book{Root: k.Model.Node, Version: strings.Join(strings.Fields(version())[:2], " "), Detail: detail}
}
