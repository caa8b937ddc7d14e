package audit

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counts counts a trail's events since the process started.
type counts struct{ logged, refused, unwritable atomic.Uint64 }

// collector collects a trail's metrics for Prometheus.
type collector struct{ t *Trail }

// Collector returns the trail's Prometheus metrics, whose names begin with konstruct_audit_.
func (t *Trail) Collector() prometheus.Collector { return collector{t} }

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name, help string, v float64, labels prometheus.Labels) {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc("konstruct_audit_"+name, help, nil, labels), kind, v)
	}
	gauge := func(name, help string, v float64) { send(prometheus.GaugeValue, name, help, v, nil) }
	const events = "Events by result: logged, refused (invalid events), unwritable (the trail or the spool " +
		"could not be written)."
	for result, n := range map[string]*atomic.Uint64{"logged": &c.t.counts.logged, "refused": &c.t.counts.refused,
		"unwritable": &c.t.counts.unwritable} {
		send(prometheus.CounterValue, "events_total", events, float64(n.Load()), prometheus.Labels{"result": result})
	}
	gauge("queue_events", "Events that wait for a shared commit.", float64(len(c.t.group.queue)))
	if c.t.spool == nil {
		return
	}
	missing, total := c.t.gaps.waiting()
	gauge("gap_events", "Events missing in gaps that are not recorded yet.", float64(missing))
	send(prometheus.CounterValue, "gap_events_total",
		"Events that were not logged because the trail could not be written, while calls went on.", float64(total), nil)
	st := c.t.spool.Status()
	age, blocked := 0.0, 0.0
	if !st.Oldest.IsZero() {
		age = max(0, time.Since(st.Oldest).Seconds())
	}
	if st.Problem != "" {
		blocked = 1
	}
	gauge("spool_waiting_events", "Events on this machine's disk that are not in the trail yet.", float64(st.Waiting))
	gauge("spool_oldest_seconds", "Age in seconds of the oldest waiting event, by this machine's clock.", age)
	gauge("spool_blocked", "1 while the spool's events can't be delivered.", blocked)
	gauge("spool_bytes", "Bytes of the spool on disk.", float64(st.Bytes))
	gauge("spool_limit_bytes", "Limit on the spool's bytes on disk.", float64(st.Limit))
	gauge("spool_rejected_events",
		"Events that the database refused after they were acknowledged; kept in the spool's folder.",
		float64(st.Rejected))
	gauge("spool_damaged_bytes", "Bytes of the spool that held no valid event; kept in its folder.",
		float64(st.Damaged))
}
