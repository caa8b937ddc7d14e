package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestMCPSaysWhoIssuesTokens: who comes without a credential, or with one that does not hold, learns where the
// resource's
// metadata is, as RFC 9728 has it, and the SDK's client reads both.
func TestMCPSaysWhoIssuesTokens(t *testing.T) {
	w := serve(t)
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for name, key := range map[string]string{"nobody": "", "a stranger": "kst_x", "a token": "a.b.c"} {
		r := w.frame(key, ping)
		challenges, err := oauthex.ParseWWWAuthenticate(r.Header.Values("WWW-Authenticate"))
		if err != nil || len(challenges) != 1 || r.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%s: %d %v, %v", name, r.StatusCode, r.Header, err)
		}
		c := challenges[0]
		if c.Scheme != "bearer" || c.Params["scope"] != "events:read events:write kb:read" ||
			c.Params["resource_metadata"] != w.url+"/.well-known/oauth-protected-resource/mcp" ||
			(c.Params["error"] == "invalid_token") != (key != "") || r.field("error", "code") != 401.0 {
			t.Errorf("%s: %+v %s", name, c, r.body)
		}
		m, err := oauthex.GetProtectedResourceMetadata(t.Context(), c.Params["resource_metadata"], w.url+"/mcp",
			http.DefaultClient)
		if err != nil || strings.Join(m.ScopesSupported, " ") != "events:read events:write evidence:read kb:read" ||
			len(m.AuthorizationServers) != 0 || strings.Join(m.BearerMethodsSupported, " ") != "header" {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if r := w.ask("GET", "/.well-known/oauth-protected-resource", "", ""); r.text("resource") != w.url+"/mcp" {
		t.Errorf("%s", r.body)
	}
	key := w.key(acme)
	for origin, status := range map[string]int{"": 200, w.url: 200, "https://evil.example": 403, "null": 403} {
		headers := []string{"Mcp-Protocol-Version", "2025-11-25"}
		if origin != "" {
			headers = append(headers, "Origin", origin)
		}
		if r := w.frame(key, ping, headers...); r.StatusCode != status {
			t.Errorf("a page of %q: %d %s", origin, r.StatusCode, r.body)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/mcp", strings.NewReader(ping))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	if got := w.do(r); got.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host's name: %d %s", got.StatusCode, got.body)
	}
}

// TestMCPTakesTokensOfItsAudience: access tokens of the provider for this resource, with the permissions that their
// scopes name, and none for another; the API takes no access token.
func TestMCPTakesTokensOfItsAudience(t *testing.T) {
	const resource = "https://audit.example.com/mcp"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var issuer string
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "1",
				Algorithm: "RS256", Use: "sig"}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": issuer + "/keys",
			"authorization_endpoint": issuer + "/a", "token_endpoint": issuer + "/t",
			"id_token_signing_alg_values_supported": []string{"RS256"}})
	}))
	t.Cleanup(provider.Close)
	issuer = provider.URL
	d := testkit.Database(t)
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	people, err := access.NewAuthenticator(door, access.Issuer{URL: issuer, Audience: "web", Resource: resource,
		Tenant: acme, Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	w := serveOn(t, d, func(c *server.Config) { c.OIDC = people })
	w.want(201, "POST", "/v1/users", w.key(acme),
		`{"issuer":"`+issuer+`","subject":"ada","name":"Ada","role":"operator"}`)
	token := func(aud, scope string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key,
			KeyID: "1"}},
			(&jose.SignerOptions{}).WithType("at+jwt"))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now().Unix()
		raw, err := json.Marshal(map[string]any{"iss": issuer, "aud": aud, "sub": "ada", "iat": now, "exp": now + 300,
			"scope": scope, "client_id": "claude"})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(raw)
		if err != nil {
			t.Fatal(err)
		}
		s, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	r := w.ask("GET", "/.well-known/oauth-protected-resource/mcp", "", "")
	if r.text("resource") != resource || at(r.field("authorization_servers"), 0) != issuer {
		t.Errorf("%s", r.body)
	}
	s := connectMCP(t, w.url+"/mcp", token(resource, "openid kb:read"), "", nil)
	if got := worked(t, s, "list_documents", nil); got["documents"] == nil {
		t.Errorf("%v", got)
	}
	write := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"log_event",` +
		`"arguments":{"action_type":"x"}}}`
	if r := w.frame(token(resource, "kb:read"), write); r.StatusCode != 403 || !strings.Contains(
		r.Header.Get("WWW-Authenticate"), `scope="events:write"`) {
		t.Errorf("beyond its scope: %d %v", r.StatusCode, r.Header)
	}
	if r := w.frame(token(resource, "kb:read events:write"), write); r.StatusCode != 200 {
		t.Errorf("with the scope: %d %s", r.StatusCode, r.body)
	}
	if e, err := w.k.Tenant(acme).Events().List(t.Context(), audit.Filter{Action: "x"}); err != nil || len(e) != 1 ||
		e[0].UserID == nil || *e[0].UserID != "Ada" {
		t.Errorf("%+v, %v", e, err)
	}
	for name, bad := range map[string]string{"another resource": token("https://other.example/mcp", "kb:read"),
		"the client": token("web", "kb:read")} {
		if r := w.frame(bad, write); r.StatusCode != 401 {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	w.want(401, "GET", "/v1/me", token(resource, "kb:read"), "")
}
