package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/export"
	"github.com/konstruct/konstruct/plural"
)

type auditExportCmd struct {
	tenantFlag
	filterFlags
	Format     string `required:"" help:"jsonl, csv, parquet, ocsf or cloudevents." placeholder:"FORMAT"`
	To         string `required:"" help:"Folder, s3:// URL, or - for standard output." placeholder:"PLACE"`
	PartEvents int64  `help:"How many events a file has at most." default:"100000"`
}

// Help is shown by --help.
func (auditExportCmd) Help() string {
	return "Writes files of events and a manifest that names each with its SHA-256. Run it again with the same flags " +
		"and it goes on where it was left. The export is an event on the tenant's trail, with the manifest's " +
		"SHA-256. It proves nothing to a stranger: konstruct audit evidence does.\n\nFormat ocsf is API Activity " +
		"with the ai_operation profile. A bucket is s3://BUCKET/PREFIX?endpoint=https://HOST." +
		"\n\nExamples:\n\n  konstruct audit export " +
		"--tenant $T --format parquet --to events/\n  konstruct audit export --tenant $T --format jsonl --since 24h " +
		"--to - | gzip > day.jsonl.gz"
}

// Run exports.
func (r auditExportCmd) Run(ctx context.Context, a *app) error {
	f, err := r.filter()
	if err != nil {
		return err
	}
	o := export.Options{Tenant: r.Tenant, Format: r.Format, Filter: f, PartEvents: r.PartEvents}
	if err := export.CheckFormat(r.Format); err != nil {
		return coded{fmt.Errorf("--format: %w", err), exitUsage}
	}
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	k, closeAll, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	source := k.Tenant(r.Tenant).Events().All
	what := map[string]any{"format": r.Format, "to": destinationName(r.To), "begun": true}
	if err := a.requireRecord(ctx, u.app, r.Tenant, audit.ActionExport, what); err != nil {
		return err
	}
	p := a.newProgress("exporting", "events", 0)
	o.Progress = func(n int64) { p.set(n, 0, n) }
	delete(what, "begun")
	if r.To == "-" {
		w := bufio.NewWriterSize(a.out, 1<<18)
		n, sum, err := export.Stream(ctx, source, w, o)
		p.done()
		if err = errors.Join(err, w.Flush()); err != nil {
			return err
		}
		what["events"], what["sha256"] = n, sum
		return a.requireRecord(ctx, u.app, r.Tenant, audit.ActionExport, what)
	}
	to, err := blob.Open(r.To)
	if err != nil {
		return coded{fmt.Errorf("--to: %w", err), exitUsage}
	}
	m, sum, err := export.Export(ctx, source, to, o)
	p.done()
	if err != nil {
		if m != nil && len(m.Parts) > 0 && !m.Complete {
			fmt.Fprintf(a.err, "%s in %s %s there: run the same command again to go on\n",
				plural.Of(m.Events, "event", "events"), plural.Of(len(m.Parts), "file", "files"),
				plural.Word(m.Events, "is", "are"))
		}
		return err
	}
	what["events"], what["manifest_sha256"] = m.Events, sum
	if err := a.requireRecord(ctx, u.app, r.Tenant, audit.ActionExport, what); err != nil {
		return err
	}
	if a.JSON {
		return a.json(map[string]any{"events": m.Events, "parts": len(m.Parts), "manifest_sha256": sum})
	}
	_, err = fmt.Fprintf(a.out, "%s in %s in %s; manifest sha256:%s\n",
		plural.Of(m.Events, "event", "events"), plural.Of(len(m.Parts), "file", "files"), destinationName(r.To), sum)
	return err
}

// destinationName is a shelf's name without what may be secret in its query.
func destinationName(to string) string {
	if b, err := blob.Open(to); err == nil {
		if b, ok := b.(*blob.S3Bucket); ok {
			return b.String()
		}
	}
	return to
}

type exportVerifyCmd struct {
	From string `arg:"" complete:"folder" help:"The folder or s3:// place."`
}

// Help is shown by --help.
func (exportVerifyCmd) Help() string {
	return "Reads every file again and holds it against the manifest. The manifest's SHA-256 stands in the tenant's " +
		"trail (konstruct audit list --action trail_export).\n\nExample:\n\n  konstruct audit export-verify events/"
}

// Run verifies.
func (r exportVerifyCmd) Run(ctx context.Context, a *app) error {
	from, err := blob.Open(r.From)
	if err != nil {
		return coded{err, exitUsage}
	}
	m, sum, err := export.Verify(ctx, from)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(map[string]any{"events": m.Events, "parts": len(m.Parts), "complete": m.Complete,
			"manifest_sha256": sum})
	}
	state := ""
	if !m.Complete {
		state = "; it is not complete: run the same export again"
	}
	_, err = fmt.Fprintf(a.out, "%s of tenant %s in %s, as the manifest says%s; manifest sha256:%s\n",
		plural.Of(m.Events, "event", "events"), m.Tenant, plural.Of(len(m.Parts), "file", "files"), state, sum)
	return err
}
