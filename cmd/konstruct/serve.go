package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/otel"
	"github.com/konstruct/konstruct/server"
	"github.com/konstruct/konstruct/tenantdb"
)

type serveCmd struct {
	Work   bool `help:"Ingest what is enqueued, and build tenants' indexes." default:"true" negatable:""`
	Notary bool `help:"Sign checkpoints, where the notary's URL is set." default:"true" negatable:""`

	KeyFor uuid.UUID `help:"Make an administrator's key of this tenant for a day, and print it." placeholder:"UUID"`
}

// Help is shown by --help.
func (serveCmd) Help() string {
	return "The API is described at /reference and /openapi.json. Make keys with konstruct key create. Ctrl-C stops " +
		"it gracefully: what was begun is answered. Exactly one notary of a database is active; others stand by. " +
		"Without the URL of a role it does less, and says what.\n\nExamples:\n\n" +
		"  konstruct serve --key-for $T\n" +
		"  konstruct serve --listen :8443 --tls-cert cert.pem --tls-key key.pem\n" +
		"  curl -H \"Authorization: Bearer $KEY\" http://127.0.0.1:7117/v1/me"
}

// keySecret reads the secret that keys are hashed with, and makes it on first use.
func (a *app) keySecret() ([]byte, error) {
	path := cmp.Or(a.KeySecretFile, filepath.Join(a.DataDir, "access", "secret"))
	raw, err := readSmallFile(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = blob.WriteNew(path, rand.Text()+rand.Text()+"\n")
		}
		if err != nil && !errors.Is(err, fs.ErrExist) { // somebody was quicker
			return nil, fmt.Errorf("make the secret that keys are hashed with: %w", err)
		}
		raw, err = readSmallFile(path, maxConfig)
	}
	if err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_KEY_SECRET_FILE: %w", err), exitUsage}
	}
	secret := []byte(strings.TrimSpace(string(raw)))
	if len(secret) < access.MinPepper {
		return nil,
			coded{fmt.Errorf("KONSTRUCT_KEY_SECRET_FILE: %s has %d bytes, it needs %d", path, len(secret),
				access.MinPepper), exitUsage}
	}
	return secret, nil
}

// keySecretIfAny is keySecret, and empty where there is none yet: one that is made here may not be the service's.
func (a *app) keySecretIfAny() ([]byte, error) {
	path := cmp.Or(a.KeySecretFile, filepath.Join(a.DataDir, "access", "secret"))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && a.KeySecretFile == "" {
		return nil, nil
	}
	return a.keySecret()
}

// Run serves until it is stopped.
func (c serveCmd) Run(ctx context.Context, a *app) (err error) {
	if err := noCore(); err != nil {
		return fmt.Errorf("have no core files written: %w", err)
	}
	u, done, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer done()
	trail, err := a.trailConfig(func(p *audit.Policy) bool { return a.SpoolDir != "" || p.Continues() })
	if err != nil {
		return err
	}
	if trail.KeySecret, err = a.keySecret(); err != nil {
		return err
	}
	trail.GrantLabels = true // each request's credential says which
	logger := slog.New(slog.NewTextHandler(a.err, nil))
	config := notary.Config{Logger: logger}
	var made *notary.Notary
	if u.notary != "" {
		o, closeOffice, err := a.openNotaryOn(ctx, u, "serve")
		if err != nil {
			return err
		}
		defer closeOffice()
		if config = o.Config; c.Notary {
			a.warnUnnamed(u.private)
			if made, err = notary.New(config); err != nil {
				return err
			}
			defer made.Close()
		}
	}
	c.sayLess(a, u)
	k, err := a.connect(ctx, u, trail)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	works := c.Work && u.worker != ""
	s, closeServer, err := a.server(ctx, u, k, config, works, logger)
	if err != nil {
		return err
	}
	defer closeServer()
	l := server.Listening{Address: a.Listen}
	if l.TLS, err = a.tlsConfig(ctx, logger); err != nil {
		return err
	}
	scheme := "http"
	if l.TLS != nil {
		scheme = "https"
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	l.Ready = func(at net.Addr) {
		// Only once the service listens: a key that nothing answers to would stay valid.
		if err := c.createFirstKey(ctx, a, k, fmt.Sprintf("%s://%s", scheme, at)); err != nil {
			stop(err)
			return
		}
		fmt.Fprintf(a.err, "konstruct: serving at %s://%s (the API is described at /reference; Ctrl-C stops it)\n",
			scheme, at)
	}
	var others []prometheus.Collector
	if made != nil {
		others = append(others, made.Collector())
	}
	metrics, err := a.showMetrics(s.Metrics(others...))
	if err != nil {
		return err
	}
	otlp, err := a.listenOTLP(u.private)
	if err != nil {
		return err
	}
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Run(within, l) })
	group.Go(func() error { return metrics(within) })
	if otlp != nil {
		fmt.Fprintf(a.err, "konstruct: OTLP over gRPC is at %s\n", otlp.Addr())
		group.Go(func() error { return s.RunOTLP(within, otlp, l.TLS) })
	}
	if made != nil {
		group.Go(func() error { return ignoreCanceled(within, made.Run(within)) })
	}
	if works {
		group.Go(func() error {
			return ignoreCanceled(within,
				k.RunWorker(within, konstruct.WorkerConfig{WorkerURL: u.worker, OwnerURL: u.owner,
					Further: otel.Further}))
		})
	}
	if a.DebugListen != "" {
		group.Go(func() error { return serveProfiles(within, a.DebugListen) })
	}
	if err := group.Wait(); err != nil {
		return a.listenError(err)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// listenError says what to do where the service's address can't be had.
func (a *app) listenError(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "listen" {
		return err
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return coded{fmt.Errorf("%s is taken, perhaps by another konstruct serve or make run: stop that, or choose "+
			"another address (--listen 127.0.0.1:7120)", a.Listen), exitUsage}
	}
	return coded{fmt.Errorf("KONSTRUCT_LISTEN: can't listen on %q: %w", a.Listen, op.Err), exitUsage}
}

// otlpAddress is where exporters send over gRPC unless they are told otherwise.
const otlpAddress = "127.0.0.1:4317"

// listenOTLP listens for OTLP over gRPC where that is configured, and on a private database at the default address if
// that is free. It returns nil for nowhere.
func (a *app) listenOTLP(private bool) (net.Listener, error) {
	at := a.OTLPGRPCListen
	if at == "" && !private {
		return nil, nil
	}
	l, err := net.Listen("tcp", cmp.Or(at, otlpAddress))
	switch {
	case err == nil:
		return l, nil
	case at == "" && errors.Is(err, syscall.EADDRINUSE):
		fmt.Fprintf(a.err, "konstruct: no OTLP over gRPC: %s is taken (KONSTRUCT_OTLP_GRPC_LISTEN names another "+
			"address); over HTTP it is at the service's own\n", otlpAddress)
		return nil, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%s is taken: choose another address (--otlp-grpc-listen 127.0.0.1:4319)", at)
	}
	return nil, coded{fmt.Errorf("KONSTRUCT_OTLP_GRPC_LISTEN: %w", err), exitUsage}
}

// sayLess says in a line each what this process does not do, because it is not given the role for it.
func (c serveCmd) sayLess(a *app, u databaseURLs) {
	for _, role := range []struct {
		url, setting, lost string
		skip               bool
	}{
		{u.notary, "KONSTRUCT_NOTARY_DATABASE_URL", "signs no checkpoints and makes no evidence", false},
		{u.worker, "KONSTRUCT_WORKER_DATABASE_URL", "leaves enqueued documents to another one", !c.Work},
		{u.owner, "KONSTRUCT_OWNER_DATABASE_URL", "builds no tenant's own index", !c.Work || u.worker == ""},
		{u.compliance, "KONSTRUCT_COMPLIANCE_DATABASE_URL", "erases nothing and changes no holds or rules", false},
	} {
		if role.url == "" && !role.skip {
			fmt.Fprintf(a.err, "konstruct: without %s this process %s\n", role.setting, role.lost)
		}
	}
}

// ignoreCanceled leaves out the error of what was stopped.
func ignoreCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// reportWait is how long a log record of a call waits for the call's span: exporters send spans every five seconds.
const reportWait = 10 * time.Second

// server puts together what serves. works says that this process's worker runs.
func (a *app) server(ctx context.Context, u databaseURLs, k *konstruct.Konstruct, office notary.Config, works bool,
	logger *slog.Logger) (s *server.Server, closeAll func(), err error) {
	var closers []func()
	undo := func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	keys := a.keys()
	config := server.Config{Konstruct: k, Evidence: office.DB, Anchor: office.Anchor, Floor: a.RetentionFloor,
		Notary: &keys, Version: version(), Logger: logger}
	if works {
		config.ReportWait = reportWait
	}
	if u.compliance != "" {
		if config.Compliance, err = tenantdb.OpenCompliance(ctx, u.compliance); err != nil {
			return nil, nil, err
		}
		closers = append(closers, config.Compliance.Close)
	}
	if config.OIDC, err = a.authenticator(k.Door()); err != nil {
		return nil, nil, err
	}
	if config.Hosts, err = a.hosts(); err != nil {
		return nil, nil, err
	}
	if config.RequestMemory, err = parseBytes("KONSTRUCT_REQUEST_MEMORY", a.RequestMemory); err != nil {
		return nil, nil, err
	}
	if config.RequestMemory < server.MinRequestMemory {
		return nil, nil, coded{fmt.Errorf("KONSTRUCT_REQUEST_MEMORY: %s is too little: it is %d MiB at least",
			a.RequestMemory, server.MinRequestMemory>>20), exitUsage}
	}
	server.TuneGC(config.RequestMemory)
	if config.Proxies, err = parseNetworks("KONSTRUCT_TRUSTED_PROXIES", a.TrustedProxies); err != nil {
		return nil, nil, err
	}
	for origin := range strings.SplitSeq(a.CORSOrigins, ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			config.Origins = append(config.Origins, origin)
		}
	}
	if config.Gateway, err = a.gateway(k, logger); err != nil {
		return nil, nil, err
	}
	if config.Gateway != nil {
		closers = append(closers, config.Gateway.Close)
	}
	if config.MCPServers, err = a.mcpServers(); err != nil {
		return nil, nil, err
	}
	if config.MCPSessionSecret, err = a.keySecret(); err != nil {
		return nil, nil, err
	}
	if s, err = server.New(config); err != nil {
		return nil, nil, err
	}
	closers = append(closers, s.Close)
	return s, undo, nil
}

// authenticator are those of the identity provider that is set; nil without one.
func (a *app) authenticator(door *tenantdb.Door) (*access.Authenticator, error) {
	if a.OIDCIssuer == "" {
		return nil, nil
	}
	i := access.Issuer{URL: a.OIDCIssuer, Audience: a.OIDCAudience, Resource: a.OIDCResource,
		TenantClaim: a.OIDCTenantClaim, Client: &http.Client{Timeout: 10 * time.Second}}
	if i.LabelsClaim = a.OIDCLabelsClaim; a.OIDCLabels != "" {
		if i.Labels = parseClaimLabels(a.OIDCLabels); i.Labels == nil || i.LabelsClaim == "" {
			return nil, coded{fmt.Errorf("KONSTRUCT_OIDC_LABELS: %.200q can't be read: write VALUE=LABEL, separated "+
				"by commas, and name the claim (KONSTRUCT_OIDC_LABELS_CLAIM)", a.OIDCLabels), exitUsage}
		}
	}
	if u, err := url.Parse(a.OIDCResource); a.OIDCResource != "" && (err != nil || u.Scheme != "https" &&
		u.Scheme != "http" || u.Host == "" || u.Fragment != "") {
		return nil, coded{fmt.Errorf("KONSTRUCT_OIDC_RESOURCE: %.200q is no address: write it as "+
			"https://audit.example.com/mcp", a.OIDCResource), exitUsage}
	}
	if a.OIDCTenant != "" {
		id, err := uuid.Parse(a.OIDCTenant)
		if err != nil {
			return nil, coded{errors.New("KONSTRUCT_OIDC_TENANT: it is not a UUID"), exitUsage}
		}
		i.Tenant = id
	}
	p, err := access.NewAuthenticator(door, i)
	if err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_OIDC_…: %w", err), exitUsage}
	}
	return p, nil
}

// parseClaimLabels reads which labels a claim's values stand for; nil where that can't be read.
func parseClaimLabels(s string) map[string][]string {
	labels := map[string][]string{}
	for pair := range strings.SplitSeq(s, ",") {
		value, label, is := strings.Cut(strings.TrimSpace(pair), "=")
		if !is || value == "" || label != tenantdb.AllLabelsName && tenantdb.CheckLabel(label) != nil {
			return nil
		}
		labels[value] = append(labels[value], label)
	}
	return labels
}

// createFirstKey creates the key of --key-for and prints it, with how to use it at the service's URL.
func (c serveCmd) createFirstKey(ctx context.Context, a *app, k *konstruct.Konstruct, url string) error {
	if c.KeyFor == uuid.Nil {
		return nil
	}
	key, _, err := k.Tenant(c.KeyFor).Keys().Create(ctx, access.LocalOperator(c.KeyFor, operatorName()),
		access.KeyRequest{Name: "serve --key-for", Permissions: access.Admin.Permissions(),
			Labels: []string{tenantdb.AllLabelsName}, ExpiresAt: time.Now().Add(24 * time.Hour)})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\nA key of tenant %s that holds for a day:\n  export KONSTRUCT_KEY=%s\n  curl -H "+
		"\"Authorization: Bearer $KONSTRUCT_KEY\" %s/v1/events\n\n", c.KeyFor, key, url)
	return nil
}

// tlsConfig reads the certificate, and again when it is told to by SIGHUP or the file has changed.
func (a *app) tlsConfig(ctx context.Context, logger *slog.Logger) (*tls.Config, error) {
	if a.TLSCert == "" && a.TLSKey == "" {
		if host, _, err := net.SplitHostPort(a.Listen); err == nil && a.TrustedProxies == "" {
			if ip, err := netip.ParseAddr(host); err != nil && host != "localhost" || err == nil && !ip.IsLoopback() {
				return nil, coded{fmt.Errorf("KONSTRUCT_LISTEN: %s is open to the network: give a certificate "+
					"(KONSTRUCT_TLS_CERT, KONSTRUCT_TLS_KEY), or name the proxies that have one "+
					"(KONSTRUCT_TRUSTED_PROXIES)", a.Listen), exitUsage}
			}
		}
		return nil, nil
	}
	var current atomic.Pointer[tls.Certificate]
	load := func() error {
		cert, err := tls.LoadX509KeyPair(a.TLSCert, a.TLSKey)
		if err != nil {
			return err
		}
		current.Store(&cert)
		return nil
	}
	if err := load(); err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_TLS_CERT, KONSTRUCT_TLS_KEY: %w", err), exitUsage}
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGHUP)
	changed := func() (at time.Time) {
		for _, path := range []string{a.TLSCert, a.TLSKey} {
			if st, err := os.Stat(path); err == nil && st.ModTime().After(at) {
				at = st.ModTime()
			}
		}
		return at
	}
	go func() {
		defer signal.Stop(told)
		for last := changed(); ; {
			select {
			case <-ctx.Done():
				return
			case <-told:
			case <-time.After(certReload):
				if now := changed(); now.Equal(last) {
					continue
				}
			}
			last = changed()
			if err := load(); err != nil {
				logger.Error("the certificate can't be read: the one before stays", "error", err)
			} else {
				logger.Info("the certificate is read again")
			}
		}
	}()
	return &tls.Config{MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return current.Load(), nil
		}}, nil
}

// certReload is how often the certificate's files are looked at.
const certReload = 2 * time.Second

// serveProfiles serves them, to this machine alone.
func serveProfiles(ctx context.Context, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return coded{fmt.Errorf("KONSTRUCT_DEBUG_LISTEN: %w", err), exitUsage}
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return coded{fmt.Errorf("KONSTRUCT_DEBUG_LISTEN: %s is no loopback address: profiles show what is in memory",
			addr), exitUsage}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	h := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	var stopped sync.WaitGroup
	defer stopped.Wait()
	stopped.Go(func() {
		<-ctx.Done()
		_ = h.Close() // profiles that are being made can go
	})
	if err := h.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("KONSTRUCT_DEBUG_LISTEN: %w", err)
	}
	return nil
}

// parseNetworks reads networks.
func parseNetworks(setting, list string) (all []netip.Prefix, err error) {
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, coded{fmt.Errorf("%s: %.60q is no network: write it as 10.1.0.0/16", setting, s), exitUsage}
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// openWithKeys opens the library with what keys are made and checked with.
func (a *app) openWithKeys(ctx context.Context) (*konstruct.Konstruct, func(), error) {
	c, err := a.trailConfig(withoutSpool)
	if err == nil {
		c.KeySecret, err = a.keySecret()
	}
	if err != nil {
		return nil, nil, err
	}
	return a.openOn(ctx, c)
}
