package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics serves this server's and other Prometheus metrics at /metrics. They name tenants and need no credential, so
// serve them on a listener of their own that outsiders can't reach.
func (s *Server) Metrics(others ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(others...)
	registry.MustRegister(s.metrics, s.c.Konstruct.Metrics(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return MetricsHandler(registry, s.c.Hosts)
}

// MetricsHandler serves metrics at /metrics, under the given host names or an address.
func MetricsHandler(figures prometheus.Gatherer, hosts Hosts) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(figures, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if !hosts.Known(r.Host) { // against DNS rebinding
			http.Error(w, "unknown host name: the operator lists them in KONSTRUCT_HOSTS",
				http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
