package notary

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// metrics are a notary's metrics; other goroutines may read them.
type metrics struct {
	rounds, sequenced, mismatches, misdated, failures atomic.Uint64
	refused, active                                   atomic.Bool
	size                                              atomic.Int64 // of the super-log
	signedAt, lag, held                               atomic.Int64 // Unix microseconds; microseconds; microseconds
	changed                                           atomic.Int64 // differences in the database's catalog
	// sealed events in no log; those overdue; those of an unknown epoch
	waiting, overdue, unknown atomic.Int64
	// when the oldest of them was recorded, in Unix microseconds; 0 without any
	oldest    atomic.Int64
	witnesses atomic.Int64 // how many cosigned the last checkpoint
	witnessed atomic.Int64 // its size
}

func (f *metrics) done(err error) {
	f.active.Store(err == nil)
	f.refused.Store(errors.Is(err, logstore.ErrRefused))
	if err != nil && !errors.Is(err, tenantdb.ErrLeased) {
		f.failures.Add(1)
	}
	if err == nil {
		f.signedAt.Store(time.Now().UnixMicro())
	}
}

func (f *metrics) add(events int64, oldest time.Time, size int64, w *logstore.Waiting) {
	f.sequenced.Add(uint64(events))
	f.size.Store(size)
	lag := int64(0)
	if events > 0 {
		lag = time.Since(oldest).Microseconds()
	}
	f.lag.Store(lag)
	f.waiting.Store(w.Events)
	f.overdue.Store(w.Overdue)
	f.unknown.Store(w.Unknown)
	f.oldest.Store(0)
	if !w.Since.IsZero() {
		f.oldest.Store(w.Since.UnixMicro())
	}
}

func (f *metrics) mismatch() { f.mismatches.Add(1) }

// Lag is how long the oldest event of the last round had waited for its signature; 0 when the round had none.
func (n *Notary) Lag() time.Duration { return time.Duration(n.metrics.lag.Load()) * time.Microsecond }

// Collector returns the notary's Prometheus metrics, prefixed konstruct_notary_.
func (n *Notary) Collector() prometheus.Collector { return collector{&n.metrics} }

type collector struct{ f *metrics }

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name, help string, v float64) {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc("konstruct_notary_"+name, help, nil, nil), kind, v)
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	f := c.f
	send(prometheus.CounterValue, "events_total", "Events sequenced into a log.", float64(f.sequenced.Load()))
	send(prometheus.CounterValue, "mismatches_total",
		"Events that did not match their seal when they were sequenced.", float64(f.mismatches.Load()))
	send(prometheus.CounterValue, "failed_rounds_total", "Rounds that failed.", float64(f.failures.Load()))
	send(prometheus.GaugeValue, "active", "1 while this notary is the one that signs.", truth(f.active.Load()))
	send(prometheus.GaugeValue, "refused", "1 while the notary refuses to sign until a person decides.",
		truth(f.refused.Load()))
	send(prometheus.GaugeValue, "super_log_size", "Leaves of the super-log.", float64(f.size.Load()))
	lag := time.Duration(f.lag.Load()) * time.Microsecond
	if at := f.oldest.Load(); at > 0 {
		lag = max(lag, time.Since(time.UnixMicro(at)))
	}
	send(prometheus.GaugeValue, "lag_seconds", "How long the oldest sealed event has waited for its log, or had when "+
		"the last round sequenced it; of any epoch.", lag.Seconds())
	send(prometheus.GaugeValue, "catalog_differences",
		"Tables, functions, triggers, rules, policies and grants that differ from the migrations.",
		float64(f.changed.Load()))
	send(prometheus.GaugeValue, "waiting_events", "Sealed events that are in no log.", float64(f.waiting.Load()))
	send(prometheus.GaugeValue, "overdue_events", "Sealed events that are in no log after the promised time.",
		float64(f.overdue.Load()))
	send(prometheus.GaugeValue, "unknown_epoch_events",
		"Sealed events that claim an epoch which the notary never began.", float64(f.unknown.Load()))
	send(prometheus.CounterValue, "misdated_total",
		"Events whose seal claims a time or an adoption that can't be true.", float64(f.misdated.Load()))
	if at := f.signedAt.Load(); at > 0 {
		send(prometheus.GaugeValue, "last_round_seconds", "Time since the last round that succeeded.",
			time.Since(time.UnixMicro(at)).Seconds())
	}
	send(prometheus.GaugeValue, "held_seconds",
		"For how long committed events wait behind a transaction that does not end.", float64(f.held.Load())/1e6)
	send(prometheus.GaugeValue, "witnesses", "Witnesses that cosigned the last checkpoint sent to them.",
		float64(f.witnesses.Load()))
	send(prometheus.GaugeValue, "witnessed_size",
		"Size of the super-log's last cosigned checkpoint.", float64(f.witnessed.Load()))
}
