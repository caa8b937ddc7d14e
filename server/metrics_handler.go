package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics serves the figures for Prometheus, and others of the process, at /metrics. They name tenants and need no
// credential, so they have a listener of their own, which strangers don't reach.
func (s *Server) Metrics(others ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(others...)
	registry.MustRegister(s.metrics, s.c.Konstruct.Metrics(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return MetricsHandler(registry, s.c.Hosts)
}

// MetricsHandler serves figures at /metrics to those who name the service as hosts do, or by an address.
func MetricsHandler(figures prometheus.Gatherer, hosts Hosts) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(figures, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if !hosts.Known(r.Host) { // a page whose name leads here would read them (DNS rebinding)
			http.Error(w, "this is not its name: the operator lists them in KONSTRUCT_HOSTS",
				http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
