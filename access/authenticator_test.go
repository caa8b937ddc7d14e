package access_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/internal/testkit"
)

// provider signs what a test likes: what a real one (server/oidc_test.go) never would.
type provider struct {
	url string
	key *rsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).
			Encode(map[string]any{"issuer": p.url, "jwks_uri": p.url + "/keys", "authorization_endpoint": p.url + "/a",
				"token_endpoint": p.url + "/t", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).
			Encode(
				jose.JSONWebKeySet{
					Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	return signWith(t, alg, key, claims, nil)
}

func signWith(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any,
	header map[jose.HeaderKey]any) string {
	t.Helper()
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signText(t, alg, key, raw, header)
}

func signText(t *testing.T, alg jose.SignatureAlgorithm, key any, text []byte, header map[jose.HeaderKey]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "1"}},
		&jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTokensThatDoNotHoldAreRefused: of another audience, issuer, time, key or algorithm; of no tenant, or one where
// nobody knows them.
func TestTokensThatDoNotHoldAreRefused(t *testing.T) {
	p := newProvider(t)
	door := testkit.Door(t)
	people, err := access.NewAuthenticator(door,
		access.Issuer{URL: p.url, Audience: "konstruct", TenantClaim: "tenant", Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	if err := door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
		_, err := access.AddUser(ctx, tx, acme, "test",
			access.User{Issuer: p.url, Subject: "ada", Role: access.Auditor})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	claims := func(change map[string]any) map[string]any {
		now := time.Now().Unix()
		c := map[string]any{"iss": p.url, "aud": "konstruct", "sub": "ada", "iat": now, "exp": now + 300,
			"tenant": acme.String()}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for name, change := range map[string]map[string]any{
		"as it should be": nil, "two audiences": {"aud": []string{"other", "konstruct"}, "azp": "konstruct"},
		"one audience in a list": {"aud": []string{"konstruct"}}, "its party": {"azp": "konstruct"},
		"parts of a second":   {"exp": float64(ago(-time.Minute)) + 0.5},
		"a clock 30 s behind": {"exp": ago(30 * time.Second)},
		"a clock 30 s before": {"iat": ago(-30 * time.Second), "nbf": ago(-30 * time.Second)},
	} {
		if w, err := people.Check(t.Context(), sign(t, jose.RS256, p.key, claims(change))); err != nil ||
			w.Role != access.Auditor || w.Tenant != acme || w.Can(access.EventsWrite) {
			t.Errorf("%s: %+v, %v", name, w, err)
		}
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	raw, err := json.Marshal(claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, jose.RS256, p.key, claims(nil))
	bad := map[string]string{
		"another key": sign(t, jose.RS256, other, claims(nil)), "the public key as a secret": sign(t, jose.HS256,
			p.key.PublicKey.N.Bytes(), claims(nil)),
		"no signature":        header + "." + base64.RawURLEncoding.EncodeToString(raw) + ".",
		"a changed signature": good[:len(good)-4] + "AAAA", "nonsense": "a.b.c",
		"an empty part": strings.Join([]string{header, "", ""}, "."),
	}
	for name, change := range map[string]map[string]any{
		"another audience": {"aud": "other"}, "another issuer": {"iss": "https://evil.example"},
		"expired": {"exp": ago(2 * time.Minute)}, "of the future": {"iat": ago(-2 * time.Minute)},
		"not yet":   {"nbf": ago(-2 * time.Minute)},
		"no expiry": {"exp": nil}, "no tenant": {"tenant": nil}, "no UUID": {"tenant": "acme"},
		"the zero tenant":    {"tenant": "00000000-0000-0000-0000-000000000000"},
		"a tenant of others": {"tenant": globex.String()}, "nobody": {"sub": "eve"},
		"another party": {"azp": "other"}, "two audiences and no party": {"aud": []string{"other",
			"konstruct"}}, "two audiences and another party": {"aud": []string{"other", "konstruct"}, "azp": "other"},
		"a party that is no text": {"azp": []string{"konstruct"}}, "no party at all": {"azp": ""},
		"no audience": {"aud": nil}, "an audience of another case": {"aud": "Konstruct"},
		"an audience that is no text": {"aud": []any{"konstruct", 1}},
		"an empty list of audiences":  {"aud": []string{}},
		"an expiry that is text":      {"exp": strconv.FormatInt(ago(-time.Minute), 10)},
		"a beginning that is text":    {"nbf": strconv.FormatInt(ago(time.Minute), 10)},
		"a making that is text":       {"iat": strconv.FormatInt(ago(time.Minute), 10)}, "no making": {"iat": nil},
		"a time of signing in that is text": {"auth_time": "1"},
		"an expiry that is no number":       {"exp": true}, "an expiry past all time": {"exp": 1e300},
		"an expiry before all time": {"exp": -1}, "an expiry by another name": {"exp": nil,
			"EXP": ago(-time.Minute)}, "an audience by another name": {"aud": nil, "Aud": "konstruct"},
		"no issuer": {"iss": nil}, "an issuer with a slash": {"iss": p.url + "/"},
		"no subject": {"sub": nil}, "a subject that is no text": {"sub": 7},
		"a long subject": {"sub": strings.Repeat("a", 256)},
		"a logout token": {"events": map[string]any{
			"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}, "a number": {"tenant": 7},
	} {
		bad[name] = sign(t, jose.RS256, p.key, claims(change))
	}
	for name, header := range map[string]map[jose.HeaderKey]any{"an access token": {"typ": "at+jwt"},
		"a kind that is no text": {"typ": 1}, "what must be understood": {"crit": []string{"exp2"}, "exp2": 1},
		"another key id": {"kid": "2"}} {
		bad[name] = signWith(t, jose.RS256, p.key, claims(nil), header)
	}
	raw = bytes.Replace(raw, []byte(`"sub":`), []byte(`"sub":"eve","sub":`), 1)
	bad["a name that stands twice"] = signText(t, jose.RS256, p.key, raw, nil)
	if w, err := people.Check(t.Context(), signWith(t, jose.RS256, p.key, claims(nil),
		map[jose.HeaderKey]any{"typ": "JWT"})); err != nil || w.Tenant != acme {
		t.Errorf("a token that says what it is: %v", err)
	}
	for name, token := range bad {
		if w, err := people.Check(t.Context(), token); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%s: %+v, %v", name, w, err)
		}
	}
}

// TestAccessTokensAreForTheResource: an access token that names it works there alone, whoever it was issued to, with
// the
// permissions that its scopes and its holder's role share; an ID token works there as it does elsewhere.
func TestAccessTokensAreForTheResource(t *testing.T) {
	const resource = "https://audit.example.com/mcp"
	p, door := newProvider(t), testkit.Door(t)
	open := func(resource string) *access.Authenticator {
		a, err := access.NewAuthenticator(door, access.Issuer{URL: p.url, Audience: "konstruct", Tenant: acme,
			Resource: resource, Client: http.DefaultClient})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	people := open(resource)
	if err := door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
		_, err := access.AddUser(ctx, tx, acme, "test",
			access.User{Issuer: p.url, Subject: "ada", Role: access.Operator})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	token := func(typ string, change map[string]any) string {
		now := time.Now().Unix()
		c := map[string]any{"iss": p.url, "aud": resource, "sub": "ada", "iat": now, "exp": now + 300,
			"client_id": "claude", "azp": "claude"}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return signWith(t, jose.RS256, p.key, c, map[jose.HeaderKey]any{"typ": typ})
	}
	for name, one := range map[string]struct {
		token string
		may   []access.Permission
	}{
		"RFC 9068":      {token("at+jwt", nil), access.Operator.Permissions()},
		"its long name": {token("application/at+jwt", nil), access.Operator.Permissions()},
		"a JWT":         {token("JWT", map[string]any{"aud": []string{"x", resource}}), access.Operator.Permissions()},
		"other scopes":  {token("at+jwt", map[string]any{"scope": "openid profile"}), access.Operator.Permissions()},
		"a scope": {token("at+jwt", map[string]any{"scope": "openid kb:read"}),
			[]access.Permission{access.KBRead}},
		"beyond the role": {token("at+jwt", map[string]any{"scope": "kb:read access:write"}),
			[]access.Permission{access.KBRead}},
		"an ID token": {token("JWT", map[string]any{"aud": "konstruct", "azp": nil, "scope": "kb:read"}),
			access.Operator.Permissions()},
	} {
		w, err := people.CheckResource(t.Context(), one.token)
		if err != nil || w.Tenant != acme || !slices.Equal(w.Permissions(), one.may) {
			t.Errorf("%s: %v may %v, %v", name, w, w.Permissions(), err)
		}
		if _, err := people.Check(t.Context(), one.token); (err == nil) != (name == "an ID token") {
			t.Errorf("%s, for the API: %v", name, err)
		}
	}
	for name, bad := range map[string]string{
		"another resource":   token("at+jwt", map[string]any{"aud": "https://other.example.com/mcp"}),
		"a prefix of it":     token("at+jwt", map[string]any{"aud": "https://audit.example.com/"}),
		"the client":         token("at+jwt", map[string]any{"aud": "konstruct", "azp": nil}),
		"no audience":        token("at+jwt", map[string]any{"aud": nil}),
		"what is no text":    token("at+jwt", map[string]any{"aud": []any{resource, 1}}),
		"expired":            token("at+jwt", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"another kind":       token("logout+jwt", nil),
		"another issuer":     token("at+jwt", map[string]any{"iss": "https://evil.example"}),
		"nobody":             token("at+jwt", map[string]any{"sub": "eve"}),
		"of another client":  token("JWT", map[string]any{"aud": "konstruct", "azp": "claude"}),
		"for nobody's sake":  token("at+jwt", map[string]any{"sub": nil}),
		"of several clients": token("JWT", map[string]any{"aud": []string{"konstruct", "x"}, "azp": nil}),
	} {
		if w, err := people.CheckResource(t.Context(), bad); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%s: %v, %v", name, w, err)
		}
	}
	if w, err := open("").CheckResource(t.Context(), token("at+jwt", nil)); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("without a resource: %v, %v", w, err)
	}
}
