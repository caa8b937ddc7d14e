package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/server"
	"github.com/konstruct/konstruct/tenantdb"
)

type notaryCmd struct {
	Run     notaryRunCmd     `cmd:"" help:"Put sealed events in order and sign checkpoints, until stopped."`
	Status  notaryStatusCmd  `cmd:"" help:"How things stand: what is signed, what waits, what hinders."`
	Resume  notaryResumeCmd  `cmd:"" help:"After a move or a restore: explain it, and go on where that is right."`
	Publish notaryPublishCmd `cmd:"" help:"Write a log's tiles and checkpoint into a folder or bucket."`
	Key     notaryKeyCmd     `cmd:"" help:"The notary's key: show it, rotate it."`
}

// notaryContext is the notary's configuration with its database, and where what operators do is recorded.
type notaryContext struct {
	notary.Config
	app     string // connection URL of konstruct_app
	private bool   // its database is the private one
}

// openNotary opens the notary's database.
func (a *app) openNotary(ctx context.Context, what string) (c notaryContext, closeAll func(), err error) {
	u, done, err := a.database(ctx)
	if err != nil {
		return c, nil, err
	}
	c, closeDB, err := a.openNotaryOn(ctx, u, what)
	if err != nil {
		done()
		return c, nil, err
	}
	return c, func() { closeDB(); done() }, nil
}

// recordTime is how long the notary waits for the record of a refusal.
const recordTime = 10 * time.Second

// openNotaryOn is office for a database that is open.
func (a *app) openNotaryOn(ctx context.Context, u databaseURLs,
	what string) (c notaryContext, closeDB func(), err error) {
	url, err := requireURL(u.notary, "KONSTRUCT_NOTARY_DATABASE_URL", what)
	if err != nil {
		return c, nil, err
	}
	c.app, c.private = u.app, u.private
	if c.Config, err = a.notaryConfig(); err != nil {
		return c, nil, err
	}
	if c.DB, err = tenantdb.OpenEvidence(ctx, url); err != nil {
		return c, nil, err
	}
	c.OnRefused = func(ctx context.Context, why error) {
		ctx, cancel := context.WithTimeout(ctx, recordTime)
		defer cancel()
		a.noteRecord(ctx, u.app, audit.ActionNotaryRefused, map[string]any{"reason": why.Error()})
	}
	if name, ok := strings.CutPrefix(a.NotaryAnchor, "witness:"); ok {
		i := slices.IndexFunc(c.Witnesses, func(w notary.Witness) bool { return w.Verifier.Name() == name })
		if i < 0 {
			c.DB.Close()
			return c, nil,
				coded{fmt.Errorf("KONSTRUCT_NOTARY_ANCHOR: witness %s is none of KONSTRUCT_NOTARY_WITNESSES", name),
					exitUsage}
		}
		c.Anchor = notary.WitnessAnchor{DB: c.DB, Witness: c.Witnesses[i]}
	}
	return c, c.DB.Close, nil
}

// warnUnnamed says, before the logs of a database begin, that they are about to get a placeholder's name for good. The
// private database's may have it.
func (a *app) warnUnnamed(private bool) {
	if _, err := a.keys().Read(); a.NotaryName != "" || private || !errors.Is(err, notary.ErrNoKey) {
		return
	}
	fmt.Fprintln(a.err, "konstruct: KONSTRUCT_NOTARY_NAME is not set: the audit logs of this database are named "+
		"konstruct.invalid, and keep that name for good; set it (example.com/audit) before the notary first signs")
}

// notaryConfig is the notary's configuration, without a database.
func (a *app) notaryConfig() (notary.Config, error) {
	c := notary.Config{Keys: a.keys(), Logger: slog.New(slog.NewTextHandler(a.err, nil))}
	place := a.NotaryAnchor
	if place == "" {
		place = filepath.Join(a.DataDir, "notary", "checkpoint")
	}
	c.Anchor = notary.FileAnchor(place)
	if strings.HasPrefix(place, "s3:") {
		bucket, err := notary.OpenBucketAnchor(place)
		if err != nil {
			return c, coded{fmt.Errorf("KONSTRUCT_NOTARY_ANCHOR: %w", err), exitUsage}
		}
		c.Anchor = bucket
	}
	if a.NotaryWitnesses != "" {
		raw, err := readSmallFile(a.NotaryWitnesses, maxConfig)
		if err != nil {
			return c, coded{fmt.Errorf("KONSTRUCT_NOTARY_WITNESSES: %w", err), exitUsage}
		}
		for line := range strings.Lines(string(raw)) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			w, err := notary.NewWitness(line)
			if err != nil {
				return c, coded{fmt.Errorf("%s: %w", a.NotaryWitnesses, err), exitUsage}
			}
			c.Witnesses = append(c.Witnesses, w)
		}
	}
	if a.NotaryTSA != "" {
		raw, err := readSmallFile(a.NotaryTSARoots, maxConfig)
		if err != nil {
			return c, coded{fmt.Errorf("KONSTRUCT_NOTARY_TSA_ROOTS: %w", err), exitUsage}
		}
		c.Authority = &notary.Authority{URL: a.NotaryTSA, Roots: x509.NewCertPool()}
		if !c.Authority.Roots.AppendCertsFromPEM(raw) {
			return c, coded{fmt.Errorf("KONSTRUCT_NOTARY_TSA_ROOTS: %s holds no certificate in PEM", a.NotaryTSARoots),
				exitUsage}
		}
	}
	return c, nil
}

func (a *app) keys() notary.Keys {
	file := a.NotaryKeyFile
	if file == "" {
		file = filepath.Join(a.DataDir, "notary", "key")
	}
	return notary.Keys{File: file, Value: a.NotaryKey, Name: a.NotaryName}
}

type notaryRunCmd struct {
	Every     time.Duration `help:"How often a checkpoint is made when there is something new." default:"1s"`
	Heartbeat time.Duration `help:"How long a log may be silent before it gets a checkpoint all the same." default:"1h"`
	Once      bool          `help:"Catch up, sign, and stop."`

	Serve string `help:"Serve the super-log's tiles and checkpoint (C2SP) at this address." placeholder:"ADDR"`
}

// Help is shown by --help.
func (notaryRunCmd) Help() string {
	return "Exactly one notary of a database is active; others stand by. The key is made on the first " +
		"run.\n\nExamples:\n\n  konstruct notary run\n  konstruct notary run --once\n  konstruct notary run --serve " +
		"127.0.0.1:8090"
}

// Run works until it is stopped.
func (r notaryRunCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openNotary(ctx, "notary run")
	if err != nil {
		return err
	}
	defer done()
	c.Every, c.Heartbeat = r.Every, r.Heartbeat
	p := a.newProgress("putting events in order", "events", 0)
	sequenced := int64(0)
	c.Progress = func(n int64) { sequenced += n; p.set(sequenced, sequenced, sequenced) }
	defer p.done()
	a.warnUnnamed(c.private)
	n, err := notary.New(c.Config)
	if err != nil {
		return err
	}
	defer n.Close()
	if r.Once {
		if err := a.catchUp(ctx, n, c.Config); err != nil {
			return err
		}
		p.done()
		if err := n.Settle(); err != nil {
			return err
		}
		if err := a.printStatus(ctx, c.Config); err != nil {
			return err
		}
		if changed := n.Changed(); len(changed) > 0 {
			return fmt.Errorf("somebody changed the database: %s; konstruct doctor names all %d", changed[0],
				len(changed))
		}
		return nil
	}
	key, err := c.Keys.Read()
	if err != nil {
		return err
	}
	fmt.Fprintf(a.err, "konstruct: notary %s, last checkpoint kept in %s\n", key.Key, c.Anchor)
	if r.Serve != "" {
		stop, err := a.serveLog(r.Serve, c.Config)
		if err != nil {
			return err
		}
		defer stop()
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(n.Collector()); err != nil {
		return err
	}
	hosts, err := a.hosts()
	if err != nil {
		return err
	}
	metrics, err := a.showMetrics(server.MetricsHandler(registry, hosts))
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	group, within := errgroup.WithContext(running)
	group.Go(func() error { defer stop(); return n.Run(within) })
	group.Go(func() error { return metrics(within) })
	return group.Wait()
}

// serveLog serves tiles and checkpoints over HTTP.
func (a *app) serveLog(addr string, c notary.Config) (stop func(), err error) {
	mux := http.NewServeMux()
	mux.Handle("GET /", notary.Handler(c.DB, logstore.Operator))
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for readers: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(a.err, "konstruct:", err)
		}
	}()
	fmt.Fprintf(a.err, "konstruct: serving the super-log at http://%s/checkpoint\n", listener.Addr())
	return func() { _ = server.Close() }, nil
}

type notaryStatusCmd struct{}

// Run prints how things stand, and fails where the notary can't work.
func (notaryStatusCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openNotary(ctx, "notary status")
	if err != nil {
		return err
	}
	defer done()
	return a.printStatus(ctx, c.Config)
}

// catchUp has everything signed that is sealed: by this notary, or by another one that is active.
func (a *app) catchUp(ctx context.Context, n *notary.Notary, c notary.Config) error {
	until := time.Now().Add(ledger.IntegrateWithin)
	for more := true; more; {
		var err error
		if more, err = n.Round(ctx); errors.Is(err, tenantdb.ErrLeased) {
			more, err = a.signedBy(ctx, c, until)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// signedBy waits for another notary, which is active, to have signed what is sealed; more says that it has not yet. By
// the time given that is an error.
func (a *app) signedBy(ctx context.Context, c notary.Config, until time.Time) (more bool, err error) {
	s, err := notary.ReadStatus(ctx, c.DB, c.Anchor)
	switch {
	case err != nil:
		return false, err
	case s.Waiting.Events == 0 && s.Signed == s.Size:
		_, err = fmt.Fprintln(a.err, "konstruct: the notary that runs on this database has signed everything")
		return false, err
	case time.Now().After(until):
		return false, fmt.Errorf("%w, and has not signed what waits for %s", tenantdb.ErrLeased, ledger.IntegrateWithin)
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(200 * time.Millisecond):
		return true, nil
	}
}

func (a *app) printStatus(ctx context.Context, c notary.Config) error {
	s, err := notary.ReadStatus(ctx, c.DB, c.Anchor)
	if err != nil {
		return err
	}
	if err := a.printNotaryStatus(s, c.Anchor); err != nil {
		return err
	}
	if !s.Ready() {
		return errors.New("the notary does not sign until a person decides: konstruct notary resume explains")
	}
	return s.Waiting.Err()
}

func (a *app) printNotaryStatus(s notary.Status, o notary.Anchor) error {
	if a.JSON {
		return a.json(s)
	}
	signed := "nothing yet"
	if s.Signed > 0 {
		signed = fmt.Sprintf("a super-log of %s, the last at %s", plural.Of(s.Signed, "leaf", "leaves"),
			s.SignedAt.UTC().Format(time.RFC3339))
	}
	lines := [][2]string{{"signed", signed}, {"waiting", s.Waiting.String()},
		{"anchor", s.Anchor + " (" + o.String() + ")"}, {"epoch", fmt.Sprint(s.Epoch)},
		{"cluster", fmt.Sprint(s.Cluster)}}
	if s.Witnesses > 0 {
		lines = append(lines, [2]string{"witnessed", fmt.Sprintf("up to size %d", s.Witnesses)})
	}
	if s.Moved {
		lines = append(lines, [2]string{"moved", fmt.Sprintf("from cluster %d: konstruct notary resume", s.Before)})
	}
	if s.Reason != "" {
		lines = append(lines, [2]string{"why", s.Reason})
	}
	for _, l := range lines {
		fmt.Fprintf(a.out, "%s %s\n", a.bold(fmt.Sprintf("%-10s", l[0])), l[1])
	}
	return nil
}

type notaryResumeCmd struct {
	Accept bool `help:"Keep what this database signed last, where the anchor holds nothing any more."`
}

// Help is shown by --help.
func (notaryResumeCmd) Help() string {
	return "Use --accept only if you know that the database was not restored to an earlier state."
}

// Run explains, and resumes where that makes no second history.
func (r notaryResumeCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openNotary(ctx, "notary resume")
	if err != nil {
		return err
	}
	defer done()
	s, err := notary.Resume(ctx, c.Config, r.Accept)
	a.noteRecord(ctx, c.app, audit.ActionResume,
		map[string]any{"situation": s, "believe": r.Accept, "refused": err != nil})
	if printErr := a.printNotaryStatus(s, c.Anchor); err == nil {
		err = printErr
	}
	if err != nil && !errors.Is(err, logstore.ErrRefused) {
		return err
	}
	if a.JSON {
		return err
	}
	switch {
	case err == nil && s.Moved:
		fmt.Fprintf(a.out, "\nThis database was moved or restored from another cluster. Epoch %d has begun: events "+
			"of both clusters that are in no log yet\nenter their logs when the notary runs, those of the old "+
			"cluster first.\n", s.Epoch)
	case err == nil && s.Waiting.OK():
		fmt.Fprintln(a.out, "\nNothing hinders the notary.")
	case err == nil:
		return s.Waiting.Err()
	case s.Anchor == notary.AnchorAhead:
		fmt.Fprint(a.out, "\nCheckpoints were signed that this database does not hold: it was restored to an earlier "+
			"state. Whoever has seen them would\nhold two histories under one name, so nothing is signed here. What "+
			"you can do:\n  - restore a newer backup, or replay the write-ahead log to its end;\n  - where what is "+
			"missing is lost for good: give the notary a new name and key (KONSTRUCT_NOTARY_NAME, "+
			"KONSTRUCT_NOTARY_KEY_FILE) on a\n    database that starts anew, and keep this one and the old "+
			"checkpoint as they are: together they show what is missing.\n")
	case s.Anchor == notary.AnchorDiffers:
		fmt.Fprint(a.out, "\nThe logs here are not the ones that were signed. konstruct audit verify --full names "+
			"what was changed. Keep this database as\nevidence, and restore one that agrees.\n")
	case s.Anchor == notary.AnchorMissing:
		fmt.Fprint(a.out, "\nThe anchor is gone. If you know that this database was not taken back since it "+
			"was signed last, run\nkonstruct notary resume --accept; a witness would still notice if it was.\n")
	}
	return err
}

type notaryPublishCmd struct {
	Tenant *uuid.UUID `help:"This tenant's log instead of the super-log." placeholder:"UUID"`
	To     string     `arg:"" complete:"folder" help:"A folder, or s3://BUCKET/PREFIX?endpoint=https://HOST."`
}

// Help is shown by --help.
func (notaryPublishCmd) Help() string {
	return "The layout is that of C2SP tlog-tiles. Only what is new is written."
}

// Run writes what is new.
func (r notaryPublishCmd) Run(ctx context.Context, a *app) error {
	c, done, err := a.openNotary(ctx, "notary publish")
	if err != nil {
		return err
	}
	defer done()
	log := logstore.Operator
	if r.Tenant != nil {
		log = *r.Tenant
	}
	to, err := blob.Open(r.To)
	if err != nil {
		return coded{err, exitUsage}
	}
	n, size, err := notary.Publish(ctx, c.DB, log, to)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(map[string]int64{"files": int64(n), "size": size})
	}
	_, err = fmt.Fprintf(a.out, "%s written; the checkpoint is of size %d\n",
		plural.Of(n, "file", "files"), size)
	return err
}

type notaryKeyCmd struct {
	Show   notaryKeyShowCmd   `cmd:"" help:"Print the public key, which verifies everything the notary signs."`
	Rotate notaryKeyRotateCmd `cmd:"" help:"Make the next key; the running notary goes over to it."`
}

type notaryKeyShowCmd struct {
	Tenant *uuid.UUID `help:"As the key of this tenant's log, for C2SP tools that know one log." placeholder:"UUID"`
}

// Run prints the key in signed-note form.
func (r notaryKeyShowCmd) Run(a *app) error {
	s, err := a.keys().Read()
	if err != nil {
		return err
	}
	key := s.Key
	if r.Tenant != nil {
		key = key.OfTenant(*r.Tenant)
	}
	if a.JSON {
		return a.json(map[string]string{"name": key.Name, "key": key.String()})
	}
	_, err = fmt.Fprintln(a.out, key)
	return err
}

type notaryKeyRotateCmd struct{}

// Run makes the next key.
func (notaryKeyRotateCmd) Run(ctx context.Context, a *app) error {
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	next, err := a.keys().Rotate()
	if err != nil {
		return err
	}
	a.noteRecord(ctx, u.app, audit.ActionRotate, map[string]any{"next": next.String()})
	if a.JSON {
		return a.json(map[string]string{"next": next.String()})
	}
	_, err = fmt.Fprintf(a.out, "%s\nThe notary enters it in the super-log at its next checkpoint, which both keys "+
		"sign. Tell whoever holds the old one,\nand your witnesses.\n", next)
	return err
}

// readKey reads a notary's key as an argument has it: itself, or a file that holds it.
func readKey(arg string) (ledger.Key, error) {
	raw, err := readSmallFile(arg, 4096)
	if err == nil {
		arg = string(raw)
	} else if !strings.Contains(arg, "+") {
		return ledger.Key{}, err // it is meant as a file
	}
	return ledger.ParseKey(arg)
}
