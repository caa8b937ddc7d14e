package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestPeopleComeWithTokensOfARealProvider: signed in there, in one tenant, with the role that they have here; also when
// its keys have changed.
func TestPeopleComeWithTokensOfARealProvider(t *testing.T) {
	issuer := testkit.NewIssuer(t)
	d := testkit.Database(t)
	door, err := tenantdb.Open(t.Context(), d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	people := func(audience string) *access.Authenticator {
		p, err := access.NewAuthenticator(door,
			access.Issuer{URL: issuer.URL, Audience: audience, Tenant: acme,
				Client: &http.Client{Timeout: 10 * time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	w := serveOn(t, d, func(c *server.Config) { c.OIDC = people(testkit.IssuerClient) })
	token := issuer.Token(t.Context())
	w.want(401, "GET", "/v1/me", token, "") // nobody has admitted them
	admin := w.key(acme)
	admit := func(role string) string {
		return w.want(201, "POST", "/v1/users", admin, `{"issuer":"`+issuer.URL+`","subject":"`+testkit.IssuerSubject+
			`","name":"Ada","role":"`+role+`"}`).text("id")
	}
	var user string
	for role, may := range map[string]map[string]int{
		"viewer": {"GET /v1/events": 200, "POST /v1/exports": 403, "POST /v1/events": 403, "GET /v1/keys": 403,
			"GET /v1/holds": 403}, "auditor": {"GET /v1/events": 200, "POST /v1/exports": 202, "POST /v1/events": 403,
			"GET /v1/holds": 200, "POST /v1/holds": 403},
		"operator": {"GET /v1/events": 200, "POST /v1/exports": 403, "POST /v1/events": 201, "GET /v1/holds": 403},
		"compliance": {"GET /v1/events": 200, "POST /v1/events": 403, "POST /v1/holds": 201, "GET /v1/keys": 200,
			"POST /v1/keys": 403},
		"admin": {"POST /v1/events": 201, "POST /v1/holds": 201, "GET /v1/keys": 200, "POST /v1/impersonate": 403},
	} {
		user = admit(role)
		if me := w.want(200, "GET", "/v1/me", token, ""); me.text("role") != role ||
			me.text("tenant_id") != acme.String() || me.text("name") != "Ada" {
			t.Errorf("%s is %s", role, me.body)
		}
		bodies := map[string]string{"POST /v1/exports": `{"format":"jsonl"}`, "POST /v1/events": `{"action_type":"x"}`,
			"POST /v1/holds": `{"reason":"r"}`, "POST /v1/keys": `{"name":"x","permissions":["kb:read"]}`,
			"POST /v1/impersonate": `{}`}
		for what, want := range may {
			method, path := what[:4], what[5:]
			if method == "GET " {
				method, path = "GET", what[4:]
			}
			if r := w.ask(method, path, token, bodies[what]); r.StatusCode != want {
				t.Errorf("%s: %s is %d, want %d: %s", role, what, r.StatusCode, want, r.body)
			}
		}
	}
	// The provider's keys change: what they sign is believed, and what nobody signs any more is not.
	issuer.Stop()
	w.want(200, "GET", "/v1/me", token, "") // its keys are known
	issuer.Start()
	w.want(200, "GET", "/v1/me", issuer.Token(t.Context()), "")
	w.want(401, "GET", "/v1/me", token, "")
	w.want(204, "DELETE", "/v1/users/"+user, admin, "")
	w.want(401, "GET", "/v1/me", issuer.Token(t.Context()), "")

	admit("viewer")
	other := serveOn(t, d, func(c *server.Config) { c.OIDC = people("another client") })
	other.want(401, "GET", "/v1/me", issuer.Token(t.Context()), "")
	issuer.Stop()
	away := serveOn(t, d, func(c *server.Config) { c.OIDC = people(testkit.IssuerClient) })
	if r := away.want(503, "GET", "/v1/me", token, ""); r.Header.Get("Retry-After") == "" {
		t.Errorf("the provider is unavailable: %v", r.Header)
	}
	away.want(200, "GET", "/v1/me", admin, "")
}
