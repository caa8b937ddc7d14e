package access_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
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
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.url, "jwks_uri": p.url + "/keys", "authorization_endpoint": p.url + "/a", "token_endpoint": p.url + "/t", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(claims)
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

// TestTokensThatDoNotHoldAreRefused: of another audience, issuer, time, key or algorithm; of no tenant, or one where nobody knows them.
func TestTokensThatDoNotHoldAreRefused(t *testing.T) {
	p := newProvider(t)
	door := testkit.Door(t)
	people, err := access.NewPeople(door, access.Issuer{URL: p.url, Audience: "konstruct", TenantClaim: "tenant", Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	if err := door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
		_, err := access.Admit(ctx, tx, acme, "test", access.User{Issuer: p.url, Subject: "ada", Role: access.Auditor})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	claims := func(change map[string]any) map[string]any {
		now := time.Now().Unix()
		c := map[string]any{"iss": p.url, "aud": "konstruct", "sub": "ada", "iat": now, "exp": now + 300, "tenant": acme.String()}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for name, change := range map[string]map[string]any{
		"as it should be": nil, "two audiences": {"aud": []string{"other", "konstruct"}}, "a clock 30 s behind": {"exp": ago(30 * time.Second)}, "a clock 30 s before": {"iat": ago(-30 * time.Second), "nbf": ago(-30 * time.Second)},
	} {
		if w, err := people.Check(t.Context(), sign(t, jose.RS256, p.key, claims(change))); err != nil || w.Role != access.Auditor || w.Tenant != acme || w.May(access.EventsWrite) {
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
		"another key": sign(t, jose.RS256, other, claims(nil)), "the public key as a secret": sign(t, jose.HS256, p.key.PublicKey.N.Bytes(), claims(nil)), "no signature": header + "." + base64.RawURLEncoding.EncodeToString(raw) + ".",
		"a changed signature": good[:len(good)-4] + "AAAA", "nonsense": "a.b.c", "an empty part": strings.Join([]string{header, "", ""}, "."),
	}
	for name, change := range map[string]map[string]any{
		"another audience": {"aud": "other"}, "another issuer": {"iss": "https://evil.example"}, "expired": {"exp": ago(2 * time.Minute)}, "of the future": {"iat": ago(-2 * time.Minute)}, "not yet": {"nbf": ago(-2 * time.Minute)},
		"no expiry": {"exp": nil}, "no tenant": {"tenant": nil}, "no UUID": {"tenant": "acme"}, "the zero tenant": {"tenant": "00000000-0000-0000-0000-000000000000"}, "a tenant of others": {"tenant": globex.String()}, "nobody": {"sub": "eve"}, "a number": {"tenant": 7},
	} {
		bad[name] = sign(t, jose.RS256, p.key, claims(change))
	}
	for name, token := range bad {
		if w, err := people.Check(t.Context(), token); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("%s: %+v, %v", name, w, err)
		}
	}
}
