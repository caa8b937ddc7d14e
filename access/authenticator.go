package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/tenantdb"
)

// Issuer is an OpenID Connect provider whose ID tokens people come with.
type Issuer struct {
	URL      string // https, and as the tokens have it
	Audience string // the client's id that tokens must be for
	// Resource is the address of a part of the service for which the provider issues access tokens to other clients
	// (RFC 8707), as https://audit.example.com/mcp; empty: access tokens are refused.
	Resource string
	// TenantClaim names the claim of a token that says which tenant its holder is in; empty where everybody of this
	// provider is in Tenant.
	TenantClaim string
	Tenant      uuid.UUID
	// LabelsClaim names the claim, a string or a list of strings, whose labels are granted beside the user's own; empty
	// is none. Labels maps the claim's values to labels; where it is nil, each value is a label.
	LabelsClaim string
	Labels      map[string][]string
	Client      *http.Client
}

// skew is how far the provider's clock may be behind or before ours.
const skew = time.Minute

// Authenticator knows people by their tokens. It is safe for concurrent use.
type Authenticator struct {
	door   *tenantdb.Door
	issuer Issuer

	mu          sync.Mutex
	verifier    *oidc.IDTokenVerifier
	lastAttempt time.Time
}

// NewAuthenticator authenticates the people of a provider. It fetches the provider's keys with the first token, and
// again when a token names a new key.
func NewAuthenticator(door *tenantdb.Door, i Issuer) (*Authenticator, error) {
	switch {
	case i.Audience == "":
		return nil, errors.New("access: the provider's audience is empty: give the client's id")
	case (i.TenantClaim == "") == (i.Tenant == uuid.Nil):
		return nil, errors.New("access: say either which claim names a person's tenant, or in which tenant all " +
			"people of the provider are")
	}
	return &Authenticator{door: door, issuer: i}, nil
}

// retryDiscovery is how long a provider that did not answer is left alone.
const retryDiscovery = 5 * time.Second

// errUnavailable says that the provider does not answer.
var errUnavailable = errors.New("the identity provider does not answer")

// ErrUnavailable reports whether a token could not be checked because its provider does not answer.
func ErrUnavailable(err error) bool { return errors.Is(err, errUnavailable) }

func (p *Authenticator) discover(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verifier != nil {
		return p.verifier, nil
	}
	if time.Since(p.lastAttempt) < retryDiscovery {
		return nil, errUnavailable
	}
	p.lastAttempt = time.Now()
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.issuer.Client), p.issuer.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	// Times are checked here, with a tolerance on both sides.
	// The audience is checked with the claims: a token is for the client, or for the resource.
	p.verifier = provider.Verifier(&oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true})
	return p.verifier, nil
}

// Issuer returns the provider's URL, as its tokens have it.
func (p *Authenticator) Issuer() string { return p.issuer.URL }

// Resource returns the address that access tokens must be for; empty where they are refused.
func (p *Authenticator) Resource() string { return p.issuer.Resource }

// Check returns who comes with an ID token, or ErrUnauthenticated.
func (p *Authenticator) Check(ctx context.Context, raw string) (Principal, error) {
	return p.check(ctx, raw, (*Issuer).readClaims)
}

// CheckResource is Check for the Issuer's Resource: it accepts ID tokens, and access tokens that are for the resource
// (RFC 9068). Where a token's scopes name permissions, it has those of its holder's role that they name.
func (p *Authenticator) CheckResource(ctx context.Context, raw string) (Principal, error) {
	return p.check(ctx, raw, (*Issuer).readResourceClaims)
}

func (p *Authenticator) check(ctx context.Context, raw string,
	read func(i *Issuer, token string, payload []byte, now time.Time) (claims, error)) (Principal, error) {
	v, err := p.discover(ctx)
	if err != nil {
		return Principal{}, err
	}
	token, err := v.Verify(oidc.ClientContext(ctx, p.issuer.Client), raw)
	if err != nil {
		return Principal{}, fmt.Errorf("%w (%w)", ErrUnauthenticated, err)
	}
	var payload json.RawMessage
	if err := token.Claims(&payload); err != nil {
		return Principal{}, fmt.Errorf("%w (%w)", ErrUnauthenticated, err)
	}
	said, err := read(&p.issuer, raw, payload, time.Now())
	if err != nil {
		return Principal{}, fmt.Errorf("%w (%w)", ErrUnauthenticated, err)
	}
	tenant := p.issuer.Tenant
	if p.issuer.TenantClaim != "" {
		claim, _ := said.all[p.issuer.TenantClaim].(string)
		if tenant, err = uuid.Parse(claim); err != nil || tenant == uuid.Nil {
			return Principal{}, fmt.Errorf("%w (its claim %s names no tenant)", ErrUnauthenticated,
				p.issuer.TenantClaim)
		}
	}
	w, err := findUser(ctx, p.door, tenant, p.issuer.URL, said.subject)
	if err != nil {
		return Principal{}, err
	}
	if len(said.scopes) > 0 {
		w.may = slices.DeleteFunc(slices.Clone(w.may), func(a Permission) bool {
			return !slices.Contains(said.scopes, a)
		})
	}
	claimed := p.issuer.labels(said.all)
	if len(claimed) > MaxLabels {
		return Principal{}, fmt.Errorf("%w (its claim %s has more than %d labels: map those that count)",
			ErrUnauthenticated, p.issuer.LabelsClaim, MaxLabels)
	}
	w.labels = tenantdb.LabelsOf(append(w.labels.Names(), claimed...)...)
	return w, nil
}
