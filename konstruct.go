// Package konstruct gives AI agents two things inside PostgreSQL: an audit trail that nobody can rewrite,
// and a knowledge base that no other tenant can read. What an agent retrieves is itself on the trail.
//
//	k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: url})
//	agent := k.Tenant(tenantID).Agent(agentID)
//	id, err := agent.LogToolCall(ctx, konstruct.ToolCall{Name: "lookup_order", Arguments: `{"order":17}`})
//	found, err := agent.Search(ctx, "How do I return a pump?", 5)
//
// The database must be migrated first: `konstruct migrate up`. [Open] connects as konstruct_app, which
// sees one tenant at a time and can rewrite nothing.
package konstruct

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/fairqueue"
	"github.com/konstruct/konstruct/fetch"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// The events an agent logs, and what a trail and a knowledge base return. Each is documented where it is
// defined; all fields not said to be required may be left zero.
type (
	// Event is one action of any kind; the typed calls below are easier for the usual ones.
	Event = audit.Event
	// LLMCall is a call of a language model; Model is required.
	LLMCall = audit.LLMCall
	// ToolCall is an invocation of a tool; Name is required.
	ToolCall = audit.ToolCall
	// Escalation hands a decision to a person; Reason is required.
	Escalation = audit.Escalation
	// Metadata is what an event says beyond its columns, by OpenTelemetry's GenAI names.
	Metadata = audit.Metadata
	// Filter says which events List returns.
	Filter = audit.Filter
	// StoredEvent is an event as the database holds it.
	StoredEvent = audit.StoredEvent
	// EscalationRecord is an escalation and what became of it, and CaseFilter says which are wanted.
	EscalationRecord = audit.EscalationRecord
	EscalationFilter = audit.EscalationFilter
	// Hit is a passage that a search found.
	Hit = search.Hit
	// Condition is one that a passage's document must meet.
	Condition = search.Condition
	// Document is a document of the knowledge base.
	Document = kb.Document
	// Passage is a chunk of a document.
	Passage = kb.Passage
	// IngestResult is what became of one file.
	IngestResult = kb.IngestResult
	// DocumentOptions is what whoever takes a document in says of it: who may find it, and anything else.
	DocumentOptions = kb.DocumentOptions
	// Upload is a document that is ingested later, and Job what becomes of it.
	Upload = kb.Upload
	Job    = kb.Job
)

// Config says where the database and the model are.
type Config struct {
	// DatabaseURL is the connection URL of role konstruct_app. Required.
	DatabaseURL string
	// AssetsDir is the folder that `make setup` and `konstruct model fetch` fill; the local model is there.
	// Empty where only Embedder is used and no file is ingested.
	AssetsDir string
	// Embedder makes vectors elsewhere; nil is the local model. Open takes it over and closes it.
	Embedder embed.Embedder
	// Embedders are others, by their names, that tenants' knowledge bases may be switched to: see Agent.Reembed. Open
	// takes them over and closes them.
	Embedders []embed.Embedder
	// Reranker puts hits in order that a Question asks it for; nil is none.
	Reranker *embed.Reranker
	// AllowNetworks are the operator's own networks whose pages may be ingested; without, public addresses alone.
	AllowNetworks []netip.Prefix
	// ReadCommand starts a process that reads strangers' files, so that a hostile one ruins nothing else: konstruct's
	// own is {"konstruct", "read-files", "--assets-dir", DIR}. Empty reads in this process.
	ReadCommand []string
	// Policy is what the operator decided for each tenant: what is redacted, and what becomes of a call when the
	// trail can't be written. Nil redacts nothing, and calls fail.
	Policy *audit.Policy
	// SpoolDir is this process's own folder for events that wait on this machine: those of Agent.Async, and the
	// gaps of tenants whose calls go on. With it, Open succeeds while the database is unavailable.
	SpoolDir string
	// SpoolLimit bounds the spool's bytes on disk; 0 is 1 GiB.
	SpoolLimit int64
	// KeySecret hashes the keys of those who come over the network, the same in every process; at least
	// access.MinPepper bytes. Empty: keys can't be made or checked.
	KeySecret []byte
	// GrantLabels is for programs that act for several people: calls see documents with labels only as far as their
	// context says (WithLabels), and a context that says nothing sees none of them. Without, the program is trusted
	// with every document.
	GrantLabels bool
	// Receipts signs receipts for events; nil makes Tenant.Events().Receipt fail.
	Receipts *ledger.Signer
	// Logger hears when the trail can't be written and when it can again; nil is slog.Default().
	Logger *slog.Logger
	// SkipCheck opens a database that the self-check would refuse. For tools that explain what is wrong.
	SkipCheck bool
}

// WithLabels has calls with this context see a tenant's documents as somebody does who was granted these labels: those
// that have none, and those that have one of them; tenantdb.Every grants all. They also put no other labels on, and
// replace and delete no other document. Given twice, what both grant is left: a context can't see more than it was let.
// Row level security holds every statement to it.
func WithLabels(ctx context.Context, labels ...string) context.Context {
	return tenantdb.WithLabels(ctx, tenantdb.LabelsOf(labels...))
}

// Konstruct is an open database. It is safe for concurrent use.
type Konstruct struct {
	door        *tenantdb.Door
	trail       *audit.Trail
	assetsDir   string
	receipts    *ledger.Signer
	logger      *slog.Logger
	fetcher     *fetch.Client
	readCommand []string
	searcher    *search.Searcher
	vectorCache *lru.Cache[vectorKey, []float32] // the vectors of questions
	reranker    *embed.Reranker
	keys        *access.Keys

	mu        sync.Mutex
	embedder  embed.Embedder
	embedders map[string]embed.Embedder
	reader    parse.Parser
}

// CheckError says that the database or the role does not hold the promises; Checks has the whole table.
type CheckError struct{ Checks []tenantdb.Check }

// Error names the failed checks and what to run.
func (e *CheckError) Error() string {
	var b strings.Builder
	b.WriteString("the database does not hold the promises:")
	for _, c := range e.Checks {
		if !c.OK {
			fmt.Fprintf(&b, " %s is %s, not %s (%s);", c.Name, c.Actual, c.Expected, c.Fix)
		}
	}
	return strings.TrimSuffix(b.String(), ";") + ": see `konstruct doctor`"
}

// Open connects to the database and runs the self-check that `konstruct doctor` prints; it returns a
// *CheckError when one fails. With a spool and the database unavailable, the check waits until it is back, and
// nothing is read or written before it has passed.
func Open(ctx context.Context, c Config) (*Konstruct, error) {
	if c.DatabaseURL == "" {
		return nil, errors.New("konstruct: Config.DatabaseURL is empty: give the connection URL of role konstruct_app")
	}
	others := map[string]embed.Embedder{}
	for _, m := range c.Embedders {
		others[m.Name()] = m
	}
	door, err := tenantdb.Open(ctx, c.DatabaseURL)
	if err != nil {
		return nil, err
	}
	if c.GrantLabels {
		door.GrantLabels()
	}
	if !c.SkipCheck {
		err := selfCheck(ctx, door)
		if err != nil && c.SpoolDir != "" && tenantdb.Unreachable(err) {
			door.Require(func(ctx context.Context) error { return selfCheck(ctx, door) })
			err = nil
		}
		if err != nil {
			door.Close()
			return nil, err
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	cache, err := lru.New[vectorKey, []float32](vectorCacheSize)
	if err != nil {
		door.Close()
		return nil, err
	}
	var keys *access.Keys
	if len(c.KeySecret) > 0 {
		if keys, err = access.NewKeys(door, c.KeySecret); err != nil {
			door.Close()
			return nil, err
		}
	}
	trail, err := audit.OpenTrail(door,
		audit.TrailConfig{Policy: c.Policy, SpoolDir: c.SpoolDir, SpoolLimit: c.SpoolLimit, Logger: c.Logger})
	if err != nil {
		door.Close()
		return nil, err
	}
	return &Konstruct{door: door, trail: trail, assetsDir: c.AssetsDir, receipts: c.Receipts, embedder: c.Embedder,
		fetcher: fetch.New(c.AllowNetworks...), readCommand: c.ReadCommand, logger: c.Logger,
		embedders: others, searcher: search.NewSearcher(), vectorCache: cache, reranker: c.Reranker, keys: keys}, nil
}

func selfCheck(ctx context.Context, door *tenantdb.Door) error {
	checks, err := door.Doctor(ctx)
	if err != nil {
		return err
	}
	for _, c := range checks {
		if !c.OK {
			return &CheckError{checks}
		}
	}
	return nil
}

// Trail is how this Konstruct writes events: its spool, its figures.
func (k *Konstruct) Trail() *audit.Trail { return k.trail }

// Metrics returns figures for Prometheus: events, and what waits on this machine.
func (k *Konstruct) Metrics() prometheus.Collector { return k.trail.Collector() }

// Close logs what was taken already, delivers for two seconds what waits in the spool (the rest waits there
// for the next Open), closes every connection, waiting for those in use, and frees the model.
func (k *Konstruct) Close() error {
	err := k.trail.Close()
	k.door.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reader != nil {
		err = errors.Join(err, k.reader.Close())
		k.reader = nil
	}
	k.fetcher.Close()
	if k.embedder != nil {
		err = errors.Join(err, k.embedder.Close())
		k.embedder = nil
	}
	for _, m := range k.embedders {
		err = errors.Join(err, m.Close())
	}
	clear(k.embedders)
	return err
}

// ErrModelNotHere says that a tenant's model is none of this process's.
var ErrModelNotHere = errors.New("it is not configured here (Config.Embedders, KONSTRUCT_EMBED_ALSO)")

// model is a model by its name. The first, whose name is empty, is loaded when it is first needed.
func (k *Konstruct) model(name string) (embed.Embedder, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if name != "" {
		m := k.embedders[name]
		if m == nil {
			return nil, fmt.Errorf("konstruct: the model %.100q: %w", name, ErrModelNotHere)
		}
		return m, nil
	}
	if k.embedder == nil {
		m, err := embed.FindModel(k.assetsDir)
		if err != nil {
			return nil, err
		}
		local, _, err := embed.OpenLocal(m)
		if err != nil {
			return nil, err
		}
		k.embedder = local
	}
	return k.embedder, nil
}

// fileReader gets ready to read strangers' files when the first is to be read.
func (k *Konstruct) fileReader() (parse.Parser, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reader != nil {
		return k.reader, nil
	}
	if len(k.readCommand) > 0 {
		k.reader = parse.NewPool(readers(), parse.DefaultLimits, k.readCommand...)
		return k.reader, nil
	}
	tokens, err := embed.FindTokenizer(k.assetsDir)
	if err != nil {
		return nil, err
	}
	k.reader = parse.NewLocal(tokens, parse.DefaultLimits)
	return k.reader, nil
}

// readers is how many files are read at once; embedding takes most of the machine.
func readers() int { return max(2, runtime.NumCPU()/2) }

func (k *Konstruct) ingester(progress func(int)) (*kb.Ingester, error) {
	r, err := k.fileReader()
	if err != nil {
		return nil, err
	}
	return &kb.Ingester{Door: k.door, Embedder: k.model, Parser: r, Concurrency: readers(), Fetcher: k.fetcher,
		Progress: progress, Logger: k.logger}, nil
}

// WorkerConfig is what Work needs beside what Open got.
type WorkerConfig struct {
	// WorkerURL is the connection URL of konstruct_worker, as which turns are dealt out. Required.
	WorkerURL string
	// OwnerURL is the connection URL of the schema's owner, as which tenants' own indexes are made and dropped; without
	// it none are.
	OwnerURL string
}

// RunWorker ingests what Agent.Enqueue enqueued, of all tenants in turns, and makes and drops indexes of large tenants'
// own, until the context ends. Any number of processes may do so.
func (k *Konstruct) RunWorker(ctx context.Context, b WorkerConfig) error {
	ctx = tenantdb.Trusted(ctx) // each job is done by the labels of whoever handed it over
	in, err := k.ingester(nil)
	if err != nil {
		return err
	}
	lines := []fairqueue.Queue{{Name: fairqueue.Documents, Concurrency: readers(), Worker: in}}
	if b.OwnerURL != "" {
		builder, err := tenantdb.OpenIndexBuilder(ctx, b.OwnerURL)
		if err != nil {
			return err
		}
		defer builder.Close()
		lines = append(lines,
			fairqueue.Queue{Name: fairqueue.Indexes, Concurrency: 1,
				Worker: &search.Indexer{Door: k.door, Builder: builder, Thresholds: search.DefaultThresholds,
					Logger: k.logger}})
	}
	return fairqueue.Run(ctx, fairqueue.Config{DatabaseURL: b.WorkerURL, Queues: lines, Logger: k.logger})
}
