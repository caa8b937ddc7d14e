package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/devpg"
)

// Issuer is an identity provider for a test: Zitadel's certified OpenID Provider, in a process of its own, with its own
// users and clients.
type Issuer struct {
	URL string // the issuer in its tokens

	t    *testing.T
	port string
	stop func()
}

// The provider's client and user.
const (
	IssuerClient   = "web"
	IssuerSubject  = "id1"
	issuerRedirect = "http://localhost:1/callback" // nobody listens: Token reads the code from the URL
)

// NewIssuer starts an identity provider, which scripts/setup installs. It stops with the test.
func NewIssuer(t *testing.T) *Issuer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{URL: "http://localhost:" + port + "/", t: t, port: port}
	i.Start()
	t.Cleanup(func() { i.Stop() })
	return i
}

// Start starts the provider with new signing keys.
func (i *Issuer) Start() {
	i.t.Helper()
	bin := filepath.Join(devpg.AssetsDir(), "issuer", "server")
	if _, err := os.Stat(bin); err != nil {
		i.t.Fatalf("%v: run scripts/setup test", err)
	}
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), "PORT="+i.port, "REDIRECT_URI="+issuerRedirect)
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	i.stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	for range 200 {
		if res, err := http.Get(i.URL + ".well-known/openid-configuration"); err == nil {
			res.Body.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	i.t.Fatal("the identity provider does not answer")
}

// Stop stops the provider.
func (i *Issuer) Stop() { i.stop() }

// Token logs the provider's user in, as a browser does (authorization code flow), and returns the ID token.
func (i *Issuer) Token(ctx context.Context) string {
	i.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		i.t.Fatal(err)
	}
	var code string
	client := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Port() == "1" {
			code = r.URL.Query().Get("code")
			return http.ErrUseLastResponse
		}
		return nil
	}}
	send := func(method, at string, form url.Values) (final *url.URL, body string) {
		i.t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, at, nil)
		if form != nil && err == nil {
			r, err = http.NewRequestWithContext(ctx, method, at+"?"+form.Encode(), nil)
		}
		if err != nil {
			i.t.Fatal(err)
		}
		r.SetBasicAuth(IssuerClient, "secret")
		res, err := client.Do(r)
		if err != nil {
			i.t.Fatal(err)
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 400 {
			i.t.Fatalf("%s %s: %d %s, %v", method, at, res.StatusCode, raw, err)
		}
		return res.Request.URL, string(raw)
	}
	login, _ := send("GET", i.URL+"auth",
		url.Values{"client_id": {IssuerClient}, "redirect_uri": {issuerRedirect}, "response_type": {"code"},
			"scope": {"openid profile email"}, "state": {"s"}})
	send("POST", fmt.Sprintf("%slogin/username", i.URL),
		url.Values{"id": {login.Query().Get("authRequestID")}, "username": {"test-user@localhost"},
			"password": {"verysecure"}})
	_, body := send("POST", i.URL+"oauth/token",
		url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {issuerRedirect}})
	var got struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.IDToken == "" {
		i.t.Fatalf("token: %s, %v", body, err)
	}
	return got.IDToken
}
