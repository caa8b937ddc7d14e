package server

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the metrics of requests. Label values are bounded: registered routes, and at most maxTenants tenants,
// with the rest counted as other.
type metrics struct {
	answers  *prometheus.HistogramVec
	tenants  *prometheus.CounterVec
	shed     prometheus.Counter
	inFlight prometheus.GaugeFunc
	memory   prometheus.GaugeFunc
	records  *prometheus.CounterVec

	mu          sync.Mutex
	tenantsSeen map[string]bool
}

// maxTenants is the number of tenants with their own label value.
const maxTenants = 100

func newMetrics(s *Server) *metrics {
	return &metrics{
		answers: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "konstruct_http_request_duration_seconds",
			Help:    "Duration of requests, by route, method and status.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}},
			[]string{"route", "method", "status"}),
		tenants: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "konstruct_http_tenant_requests_total",
			Help: "Requests of each tenant; tenants after the first hundred are counted as other."},
			[]string{"tenant"}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{Name: "konstruct_http_requests_shed_total",
			Help: "Requests rejected because too many were in progress."}),
		inFlight: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "konstruct_http_requests_in_flight",
			Help: "Requests in progress."}, func() float64 {
			return float64(s.working.Load())
		}),
		memory: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "konstruct_http_body_memory_bytes",
			Help: "Memory reserved for request bodies."},
			func() float64 { return float64(s.memory.inUse()) }),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "konstruct_otlp_records_total",
			Help: "Spans and log records that arrived over OTLP, by what became of them."},
			[]string{"signal", "result"}),
		tenantsSeen: map[string]bool{},
	}
}

// captured counts the records of an export.
func (m *metrics) captured(signal string, logged, dropped, rejected int) {
	for result, n := range map[string]int{"logged": logged, "dropped": dropped, "rejected": rejected} {
		m.records.WithLabelValues(signal, result).Add(float64(n))
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, part := range m.collectors() {
		part.Describe(c)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	for _, part := range m.collectors() {
		part.Collect(c)
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.answers, m.tenants, m.shed, m.inFlight, m.memory, m.records}
}

// methods are the methods with their own label value.
var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true,
	"OPTIONS": true}

func (m *metrics) answered(r *http.Request, w *responseWatcher, took time.Duration) {
	_, route, _ := strings.Cut(w.route, " ")
	if route == "" {
		route = "none"
	}
	method := r.Method
	if !methods[method] {
		method = "other"
	}
	m.answers.WithLabelValues(route, method, strconv.Itoa(w.status)).Observe(took.Seconds())
	if w.tenant != "" {
		m.tenants.WithLabelValues(m.tenantLabel(w.tenant)).Inc()
	}
}

func (m *metrics) tenantLabel(tenant string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tenantsSeen[tenant] {
		if len(m.tenantsSeen) >= maxTenants {
			return "other"
		}
		m.tenantsSeen[tenant] = true
	}
	return tenant
}
