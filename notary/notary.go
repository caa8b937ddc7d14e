// Package notary puts sealed events in order, one log a tenant, signs checkpoints, keeps the last one in an anchor
// outside the database, has witnesses cosign and authorities time-stamp it, and publishes the logs' files. It writes as
// konstruct_notary. It knows nothing of how the logs are verified, of the knowledge base, or of the HTTP API.
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

// Config says how a notary works; DB, Keys and Anchor are required.
type Config struct {
	DB   *tenantdb.Evidence
	Keys Keys
	// Anchor keeps the last signed checkpoint where the database's administrator is not master.
	Anchor Anchor
	// Every is how often a checkpoint is made when there is something new; 0 is DefaultEvery.
	Every time.Duration
	// Heartbeat is how long a log may be silent before it gets a checkpoint all the same; 0 is DefaultHeartbeat.
	Heartbeat time.Duration
	// Witnesses are asked to cosign the super-log's checkpoints.
	Witnesses []Witness
	// Authority time-stamps the super-log's checkpoints; nil: nobody does.
	Authority *Authority
	// Logger hears of what went wrong; nil is slog.Default().
	Logger *slog.Logger
	// IntegrateWithin is by when a sealed event should be in its log; 0 is ledger.IntegrateWithin.
	IntegrateWithin time.Duration
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
	// Progress, when not nil, hears how many events a catching-up notary has put in order.
	Progress func(sequenced int64)
}

// The measures of a notary.
const (
	DefaultEvery     = time.Second
	DefaultHeartbeat = time.Hour
	// maxRound is how many events one round takes; memory holds no more.
	maxRound = 1 << 15
	// standbyPause is how often a notary without the lease asks for it.
	standbyPause = 2 * time.Second
	// catalogEvery is how often a notary looks whether somebody changed the database's catalog.
	catalogEvery = time.Minute
	// retryPause is waited after a failed round.
	retryPause = time.Second
)

// Notary sequences and signs. Its methods are for one goroutine; figures may be read from others.
type Notary struct {
	c          Config
	signer     *ledger.Signer
	next       *ledger.Signer // the key that takes its place, while keys rotate
	lease      *tenantdb.Lease
	logs       map[uuid.UUID]*logState // what is in memory; the database has the rest
	heartbeats map[uuid.UUID]time.Time // when each log last had a head
	super      *logState
	scanned    logstore.Position    // how far all seals were read
	epochNow   int16                // the epoch in force
	marks      []logstore.RoundMark // when the last rounds were, and in which transactions
	unleased   bool                 // for tests: it believes it holds the lease
	asking     witnessState
	signed     string // the super-log's checkpoint that the anchor has, as far as we know
	kept       int64  // its size
	version    string // and its version there
	stored     int64  // up to which size everything signed is stored
	figures    metrics
	heldLogged time.Time             // when a held horizon was last said
	waitLogged time.Time             // when it was last said that events are overdue
	waiting    logstore.Waiting      // what the last round left
	catalog    []tenantdb.Difference // what was found changed about the database
	lastScan   time.Time             // when that was
}

// New makes a notary; Run or Round make it work.
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

// Waiting is what the last round left: sealed, and in no log.
func (n *Notary) Waiting() logstore.Waiting { return n.waiting }

// Changed is what somebody changed about the tables, functions, triggers, rules, policies or grants, when the notary
// looked last. It goes on all the same: what is in a signed log can't be changed unseen, and what is not can.
func (n *Notary) Changed() []tenantdb.Difference { return n.catalog }

// Run works until ctx ends: it waits for the lease, makes rounds, and goes on after what may pass. What
// does not pass by itself is said in the log each time anew, and in the figures.
func (n *Notary) Run(ctx context.Context) error {
	defer n.Close()
	standing := false
	for ctx.Err() == nil {
		begin := time.Now()
		more, err := n.Round(ctx)
		wait := n.c.Every - time.Since(begin)
		switch {
		case err == nil:
			standing = false
			if more {
				wait = 0
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, tenantdb.ErrLeased):
			if !standing {
				n.c.Logger.Info("notary: standing by: another one is active on this database")
			}
			standing, wait = true, standbyPause
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

// Close gives the lease back, after the witnesses have answered or had their time.
func (n *Notary) Close() { n.forget(); n.asking.Wait() }

// Settle waits until the witnesses have answered or had their time, and returns ErrRefused where one has seen more than
// there is here.
func (n *Notary) Settle() error {
	n.asking.Wait()
	n.asking.mu.Lock()
	defer n.asking.mu.Unlock()
	return n.asking.fork
}

// rememberedLogs is how many logs a notary keeps in memory between rounds; others are read back when they grow.
const rememberedLogs = 4096

// shrink forgets logs that were idle in the last round when there are too many.
func (n *Notary) shrink() {
	if len(n.logs) <= rememberedLogs {
		return
	}
	now := n.figures.rounds.Load()
	for tenant, l := range n.logs {
		if l.used != now {
			delete(n.logs, tenant)
		}
	}
}

// forget forgets everything that the database knows better, and the lease.
func (n *Notary) forget() {
	n.logs, n.heartbeats, n.super, n.signed, n.kept, n.stored = nil, nil, nil, "", 0, 0
	if n.lease != nil {
		n.lease.Release()
		n.lease = nil
	}
}
