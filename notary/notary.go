// Package notary sequences sealed events into one log per tenant and signs checkpoints. It stores the last checkpoint
// in an anchor outside the database, collects witnesses' cosignatures and RFC 3161 time-stamps for it, and publishes
// the logs' files. It writes as konstruct_notary. It must not know how logs are verified, the knowledge base, or the
// HTTP API.
package notary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// Config configures a notary; DB, Keys and Anchor are required.
type Config struct {
	DB   *tenantdb.Evidence
	Keys Keys
	// Anchor holds the last signed checkpoint, out of reach of the database's administrator.
	Anchor Anchor
	// Every is the interval between checkpoints while there are new events; 0 is DefaultEvery.
	Every time.Duration
	// Heartbeat is the interval after which a log without new events gets a checkpoint; 0 is DefaultHeartbeat.
	Heartbeat time.Duration
	// Witnesses cosign the super-log's checkpoints.
	Witnesses []Witness
	// Authority time-stamps the super-log's checkpoints; nil is none.
	Authority *Authority
	// Logger logs problems; nil is slog.Default().
	Logger *slog.Logger
	// IntegrateWithin is the time within which a sealed event must be in its log; 0 is ledger.IntegrateWithin.
	IntegrateWithin time.Duration
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
	// Progress, when not nil, is called with the number of events of a round that more rounds follow at once.
	Progress func(sequenced int64)
	// OnRefused, when not nil, is called when the notary begins to refuse to sign, and each hour that it goes on. The
	// round waits for it.
	OnRefused func(ctx context.Context, why error)
}

// Intervals and limits.
const (
	DefaultEvery     = time.Second
	DefaultHeartbeat = time.Hour
	// maxRound is the largest number of events in a round; it bounds memory.
	maxRound = 1 << 15
	// standbyPause is the interval at which a standby notary tries to get the lease.
	standbyPause = 2 * time.Second
	// catalogEvery is the interval between checks of the database's catalog.
	catalogEvery = time.Minute
	// retryPause is the pause after a failed round.
	retryPause = time.Second
	// refusalEvery is the interval between reports of a refusal that goes on.
	refusalEvery = time.Hour
)

// Notary sequences and signs. Its methods are for one goroutine; metrics may be read from others.
type Notary struct {
	c             Config
	signer        *ledger.Signer
	next          *ledger.Signer // the next key of a rotation in progress
	lease         *tenantdb.Lease
	logs          map[uuid.UUID]*logState // cached; the database has all of them
	heartbeats    map[uuid.UUID]time.Time // when each log last had a head
	super         *logState
	scanned       logstore.Position    // the position up to which all seals are sequenced
	epochNow      int16                // the current epoch
	marks         []logstore.RoundMark // the last rounds: their times and transactions
	unleased      bool                 // for tests: works without the lease
	witnesses     witnessState
	anchored      string // the super-log's checkpoint in the anchor, as last read or written
	anchoredSize  int64  // its size, in leaves
	anchorVersion string // its version in the anchor
	stored        int64  // the size up to which all signed checkpoints are stored
	metrics       metrics
	heldLogged    time.Time             // when a held-back horizon was last logged
	waitLogged    time.Time             // when overdue events were last logged
	waiting       logstore.Waiting      // seals that the last round left
	catalog       []tenantdb.Difference // what differs in the database's catalog
	lastScan      time.Time             // when the catalog was last checked
	refusalTold   time.Time             // when OnRefused was last called, of a refusal that goes on
}

// New returns a notary; Run or Round start its work.
func New(c Config) (*Notary, error) {
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = DefaultHeartbeat
	}
	if c.IntegrateWithin == 0 {
		c.IntegrateWithin = ledger.IntegrateWithin
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Every < 0 || c.Heartbeat < c.Every {
		return nil, fmt.Errorf("notary: a heartbeat of %v is shorter than the interval between checkpoints, %v",
			c.Heartbeat, c.Every)
	}
	signer, err := c.Keys.Load()
	if err != nil {
		return nil, err
	}
	return &Notary{c: c, signer: signer}, nil
}

// Waiting returns the sealed events that are in no log after the last round.
func (n *Notary) Waiting() logstore.Waiting { return n.waiting }

// Changed returns the tables, functions, triggers, rules, policies and grants that differ from the migrations, as of
// the last check. The notary continues: a change of a logged event is detectable, a change of one not logged yet is
// not.
func (n *Notary) Changed() []tenantdb.Difference { return n.catalog }

// Run works until ctx ends: it waits for the lease, runs rounds, and retries after errors. An error that persists is
// logged each time, and shows in the metrics.
func (n *Notary) Run(ctx context.Context) error {
	defer n.Close()
	standby := false
	for ctx.Err() == nil {
		begin := time.Now()
		more, err := n.Round(ctx)
		wait := n.c.Every - time.Since(begin)
		switch {
		case err == nil:
			standby = false
			if more {
				wait = 0
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, tenantdb.ErrLeased):
			if !standby {
				n.c.Logger.Info("notary: standing by: another one is active on this database")
			}
			standby, wait = true, standbyPause
		case errors.Is(err, tenantdb.ErrLeaseTaken):
			n.c.Logger.Error("notary: no checkpoint can be made", "error", err)
			wait = standbyPause
		default:
			n.c.Logger.Error("notary: no checkpoint was made", "error", err)
			wait = max(wait, retryPause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// tellRefusal reports a round that was refused.
func (n *Notary) tellRefusal(ctx context.Context, err error) {
	switch {
	case err == nil:
		n.refusalTold = time.Time{}
	case errors.Is(err, logstore.ErrRefused) && n.c.OnRefused != nil && time.Since(n.refusalTold) >= refusalEvery:
		n.refusalTold = time.Now()
		n.c.OnRefused(ctx, err)
	}
}

// Close waits for requests to witnesses and the time-stamp authority, and releases the lease.
func (n *Notary) Close() { n.forget(); n.witnesses.Wait() }

// Settle waits for requests to witnesses and the time-stamp authority. It returns ErrRefused when a witness has
// cosigned a larger super-log than this database has.
func (n *Notary) Settle() error {
	n.witnesses.Wait()
	n.witnesses.mu.Lock()
	defer n.witnesses.mu.Unlock()
	return n.witnesses.fork
}

// rememberedLogs is the number of logs cached between rounds; others are read again when they grow.
const rememberedLogs = 4096

// shrink evicts logs that the last round did not use, when the cache is full.
func (n *Notary) shrink() {
	if len(n.logs) <= rememberedLogs {
		return
	}
	now := n.metrics.rounds.Load()
	for tenant, l := range n.logs {
		if l.used != now {
			delete(n.logs, tenant)
		}
	}
}

// forget discards the state that the database also holds, and the lease.
func (n *Notary) forget() {
	n.logs, n.heartbeats, n.super, n.anchored, n.anchoredSize, n.stored = nil, nil, nil, "", 0, 0
	if n.lease != nil {
		n.lease.Release()
		n.lease = nil
	}
}
