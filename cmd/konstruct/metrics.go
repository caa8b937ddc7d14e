package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/konstruct/konstruct/server"
)

// noMetrics is the setting of a service that serves no metrics.
const noMetrics = "off"

// hosts are the names of the service that were set, and the one that it listens under.
func (a *app) hosts() (server.Hosts, error) {
	h, err := server.ParseHosts(a.Hosts)
	if err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_HOSTS: %w", err), exitUsage}
	}
	if host, _, err := net.SplitHostPort(a.Listen); err == nil && host != "" {
		h = append(h, strings.ToLower(host))
	}
	return h, nil
}

// showMetrics listens for scrapers, and returns the function that serves them until the context ends. Where the default
// address is taken, by another process of ours, say, no metrics are served.
func (a *app) showMetrics(figures http.Handler) (serve func(context.Context) error, err error) {
	if a.MetricsListen == noMetrics {
		return func(context.Context) error { return nil }, nil
	}
	l, err := net.Listen("tcp", a.MetricsListen)
	if errors.Is(err, syscall.EADDRINUSE) && a.sources["KONSTRUCT_METRICS_LISTEN"] == "default" {
		fmt.Fprintf(a.err,
			"konstruct: no metrics are served: %s is taken (KONSTRUCT_METRICS_LISTEN names another address)\n",
			a.MetricsListen)
		return func(context.Context) error { return nil }, nil
	}
	if err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_METRICS_LISTEN: %w", err), exitUsage}
	}
	fmt.Fprintf(a.err, "konstruct: metrics are at http://%s/metrics\n", l.Addr())
	h := &http.Server{Handler: figures, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	return func(ctx context.Context) error {
		var stopped sync.WaitGroup
		defer stopped.Wait()
		stopped.Go(func() {
			<-ctx.Done()
			_ = h.Close() // a scrape in progress may fail
		})
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("KONSTRUCT_METRICS_LISTEN: %w", err)
		}
		return nil
	}, nil
}
