package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are a worker's Prometheus metrics, prefixed konstruct_webhook_. They name no tenant.
type Metrics struct {
	attempts *prometheus.HistogramVec
	dead     prometheus.Counter
	disabled prometheus.Counter
	inFlight prometheus.Gauge
}

// NewMetrics returns metrics to register.
func NewMetrics() *Metrics {
	return &Metrics{
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "konstruct_webhook_attempt_duration_seconds",
			Help: "Duration of attempts to deliver a message, by result: delivered, refused (a response that is " +
				"not 2xx), failed (no response).",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}}, []string{"result"}),
		dead: prometheus.NewCounter(prometheus.CounterOpts{Name: "konstruct_webhook_dead_letters_total",
			Help: "Deliveries that ended without success, after the last attempt or with 410."}),
		disabled: prometheus.NewCounter(prometheus.CounterOpts{Name: "konstruct_webhook_disabled_total",
			Help: "Endpoints that were disabled, because they answered 410 or failed for days."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "konstruct_webhook_requests_in_flight",
			Help: "Requests to endpoints in progress."}),
	}
}

// settled counts an attempt.
func (m *Metrics) settled(s State, o outcome, took time.Duration) {
	result := "delivered"
	switch {
	case o.err != "" && o.status != nil:
		result = "refused"
	case o.err != "":
		result = "failed"
	}
	m.attempts.WithLabelValues(result).Observe(took.Seconds())
	if s == Dead {
		m.dead.Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(c chan<- *prometheus.Desc) {
	for _, part := range m.collectors() {
		part.Describe(c)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(c chan<- prometheus.Metric) {
	for _, part := range m.collectors() {
		part.Collect(c)
	}
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.dead, m.disabled, m.inFlight}
}
