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
	"github.com/konstruct/konstruct/webhook"
)

// The events an agent logs, and what a trail and a knowledge base return. Each is documented where it is defined;
// fields not marked required may be zero.
type (
	// Event is one action of any kind; the typed events below are easier for the common kinds.
	Event = audit.Event
	// LLMCall is a call of a language model; Model is required.
	LLMCall = audit.LLMCall
	// ToolCall is an invocation of a tool; Name is required.
	ToolCall = audit.ToolCall
	// Escalation hands a decision to a person; Reason is required.
	Escalation = audit.Escalation
	// Metadata is what an event holds beyond its columns, named as in OpenTelemetry's GenAI conventions.
	Metadata = audit.Metadata
	// Filter selects the events that List returns.
	Filter = audit.Filter
	// StoredEvent is an event as stored in the database.
	StoredEvent = audit.StoredEvent
	// EscalationRecord is an escalation and its state, and EscalationFilter selects them.
	EscalationRecord = audit.EscalationRecord
	EscalationFilter = audit.EscalationFilter
	// Hit is a passage in a search's result.
	Hit = search.Hit
	// Condition is a condition that a passage's document must meet.
	Condition = search.Condition
	// Document is a document of the knowledge base.
	Document = kb.Document
	// Collection is a named set of documents, CollectionOptions what the caller sets on one, and CollectionDocument one
	// of its entries.
	Collection         = kb.Collection
	CollectionOptions  = kb.CollectionOptions
	CollectionDocument = kb.CollectionDocument
	// Passage is a chunk of a document.
	Passage = kb.Passage
	// IngestResult is the outcome of one file.
	IngestResult = kb.IngestResult
	// DocumentOptions is what the caller adds to an ingested document: labels and metadata.
	DocumentOptions = kb.DocumentOptions
	// Upload is a document to ingest later, and Job is the state of its ingestion.
	Upload = kb.Upload
	Job    = kb.Job
)

// Config configures Open.
type Config struct {
	// DatabaseURL is the connection URL of role konstruct_app. Required.
	DatabaseURL string
	// AssetsDir is the folder with the local model, filled by `make setup` or `konstruct model fetch`. It may be empty
	// when Embedder is set and no file is ingested.
	AssetsDir string
	// Embedder embeds texts with another model; nil is the local one. Open takes ownership and Close closes it.
	Embedder embed.Embedder
	// Embedders are more models, to which a tenant's knowledge base can be switched: see Agent.Reembed. Open takes
	// ownership and Close closes them.
	Embedders []embed.Embedder
	// Reranker reorders the hits of requests with SearchRequest.Rerank; nil is none.
	Reranker *embed.Reranker
	// AllowNetworks are private networks whose pages may be ingested; without, only public addresses are.
	AllowNetworks []netip.Prefix
	// WebhookNetworks are private networks that webhooks may be sent to; without, only public addresses are.
	WebhookNetworks []netip.Prefix
	// ReadCommand starts a process that parses untrusted files, so that a hostile one harms nothing else. Konstruct's
	// own is {"konstruct", "read-files", "--assets-dir", DIR}. Empty parses in this process.
	ReadCommand []string
	// Policy is the operator's policy for each tenant: what is redacted, and whether calls continue when the trail
	// can't be written. Nil redacts nothing, and calls fail.
	Policy *audit.Policy
	// SpoolDir is this process's own folder for events that wait on this machine: those of Agent.Async, and the gaps of
	// tenants whose calls continue without the trail. With it, Open succeeds while the database is unavailable.
	SpoolDir string
	// SpoolLimit bounds the spool's size on disk, in bytes; 0 is 1 GiB.
	SpoolLimit int64
	// KeySecret is the secret that API keys are hashed with, at least access.MinPepper bytes and the same in every
	// process. Webhooks' signing secrets are encrypted with it. Empty: there are neither API keys nor webhooks.
	KeySecret []byte
	// GrantLabels is for programs that act for several people. A call then sees documents with labels only as granted
	// by its context (WithLabels), and none of them without a grant. When false, the program sees every document.
	GrantLabels bool
	// Receipts signs receipts for events; when nil, Events.Receipt fails.
	Receipts *ledger.Signer
	// Logger logs when the trail becomes unavailable and when it is back; nil is slog.Default().
	Logger *slog.Logger
	// SkipCheck opens a database that fails the self-check, for tools that explain the failure.
	SkipCheck bool
}

// WithLabels grants calls with this context access to documents that have none or one of these labels;
// tenantdb.AllLabelsName grants all. Such calls also can't set other labels, and can't replace or delete other
// documents. Nested grants intersect: a context never sees more than its parent. Row-level security enforces it for
// every statement.
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
	vectorCache *lru.Cache[vectorKey, []float32] // vectors of recent queries
	reranker    *embed.Reranker
	keys        *access.Keys
	webhooks    *webhook.Endpoints
	metrics     *webhook.Metrics

	mu        sync.Mutex
	embedder  embed.Embedder
	embedders map[string]embed.Embedder
	reader    parse.Parser
}

// CheckError means that the database or its role fails the self-check; Checks has all results.
type CheckError struct{ Checks []tenantdb.Check }

// maxNamedChecks is how many failed checks an error names.
const maxNamedChecks = 4

// Error names the first failed checks and what to run.
func (e *CheckError) Error() string {
	var b strings.Builder
	b.WriteString("the database does not hold the promises: ")
	failed := 0
	for _, c := range e.Checks {
		if c.OK {
			continue
		}
		if failed++; failed <= maxNamedChecks {
			fmt.Fprintf(&b, "%s is %s, not %s (%s); ", c.Name, c.Actual, c.Expected, c.Fix)
		}
	}
	if more := failed - maxNamedChecks; more > 0 {
		fmt.Fprintf(&b, "and %d more; ", more)
	}
	return b.String() + "konstruct doctor names all"
}

// Open connects to the database and runs the self-check that `konstruct doctor` prints; it returns a *CheckError when a
// check fails. With a spool and the database unavailable, the self-check runs once the database is back, before
// anything else is read or written.
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
	var webhooks *webhook.Endpoints
	if len(c.KeySecret) > 0 {
		keys, err = access.NewKeys(door, c.KeySecret)
		if err == nil {
			webhooks, err = webhook.NewEndpoints(door, c.KeySecret, c.WebhookNetworks)
		}
		if err != nil {
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
		embedders: others, searcher: search.NewSearcher(), vectorCache: cache, reranker: c.Reranker, keys: keys,
		webhooks: webhooks, metrics: webhook.NewMetrics()}, nil
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

// Trail returns the trail that this Konstruct writes events to, with its spool and statistics.
func (k *Konstruct) Trail() *audit.Trail { return k.trail }

// Metrics returns Prometheus metrics: events, the spool, and attempts of webhooks.
func (k *Konstruct) Metrics() prometheus.Collector { return collectors{k.trail.Collector(), k.metrics} }

// collectors are several as one.
type collectors []prometheus.Collector

// Describe implements prometheus.Collector.
func (all collectors) Describe(to chan<- *prometheus.Desc) {
	for _, c := range all {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (all collectors) Collect(to chan<- prometheus.Metric) {
	for _, c := range all {
		c.Collect(to)
	}
}

// Close logs the events that it has accepted, ships the spool for up to two seconds (the rest waits on disk for the
// next Open), waits for connections in use, closes them, and frees the model.
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
	if k.webhooks != nil {
		k.webhooks.Close()
	}
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

// ErrModelNotHere means that this process has no such model in Config.Embedders.
var ErrModelNotHere = errors.New("it is not configured here (KONSTRUCT_EMBED_ALSO)")

// model returns a model by its name. The first model has the empty name and is loaded on first use.
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

// fileReader returns the parser of untrusted files, started on first use.
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

// readers is the number of files to parse at a time; embedding needs most of the CPUs.
func readers() int { return max(2, runtime.NumCPU()/2) }

func (k *Konstruct) ingester(progress func(int)) (*kb.Ingester, error) {
	r, err := k.fileReader()
	if err != nil {
		return nil, err
	}
	return &kb.Ingester{Door: k.door, Embedder: k.model, Parser: r, Concurrency: readers(), Fetcher: k.fetcher,
		Progress: progress, Logger: k.logger}, nil
}

// WorkerConfig is what RunWorker needs beside Open's Config.
type WorkerConfig struct {
	// WorkerURL is the connection URL of role konstruct_worker, which reads the job queue. Required.
	WorkerURL string
	// OwnerURL is the connection URL of the schema's owner, which creates and drops tenants' own indexes. Empty:
	// tenants get no indexes of their own.
	OwnerURL string
	// Further decides what is logged of a report that waited, if its event is on the trail meanwhile: see
	// audit.Trail.LogReports. Nil: this worker logs no reports that waited.
	Further func(stored StoredEvent, e Event) (Event, bool)
}

// RunWorker ingests what Agent.Enqueue enqueued, taking tenants in turn, logs reports of calls whose spans did not come
// (audit.Trail.KeepWaiting), sends webhooks' messages if Config.KeySecret is set, has collections expire, and creates
// and drops large tenants' own indexes, until the context ends. Any number of processes may run it.
func (k *Konstruct) RunWorker(ctx context.Context, b WorkerConfig) error {
	ctx = tenantdb.Trusted(ctx) // each job runs with the labels of its uploader
	in, err := k.ingester(nil)
	if err != nil {
		return err
	}
	queues := []fairqueue.Queue{{Name: fairqueue.Documents, Concurrency: readers(), Worker: in},
		{Name: fairqueue.Collections, Concurrency: 1, Worker: collectionExpirer{k}}}
	if b.Further != nil {
		queues = append(queues, fairqueue.Queue{Name: fairqueue.Reports, Concurrency: 2,
			Worker: audit.LogDue{Trail: k.trail, Further: b.Further}})
	}
	if k.webhooks != nil {
		w := k.webhooks.NewWorker(ctx, k.metrics, k.logger, k.webhookDisabled)
		defer w.Wait()
		queues = append(queues, fairqueue.Queue{Name: fairqueue.Webhooks, Concurrency: webhookTurns, Worker: w})
	}
	if b.OwnerURL != "" {
		builder, err := tenantdb.OpenIndexBuilder(ctx, b.OwnerURL)
		if err != nil {
			return err
		}
		defer builder.Close()
		queues = append(queues,
			fairqueue.Queue{Name: fairqueue.Indexes, Concurrency: 1,
				Worker: &search.Indexer{Door: k.door, Builder: builder, Thresholds: search.DefaultThresholds,
					Logger: k.logger}})
	}
	return fairqueue.Run(ctx, fairqueue.Config{DatabaseURL: b.WorkerURL, Queues: queues, Logger: k.logger})
}

// webhookTurns is how many tenants have webhooks sent at one time: a turn waits for endpoints, for two seconds at most.
const webhookTurns = 16
