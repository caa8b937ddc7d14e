package access_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestLabelsComeByAClaim beside those that a person was admitted with: as the provider writes them, or as the operator
// maps them; what is no label grants nothing.
func TestLabelsComeByAClaim(t *testing.T) {
	p, door := newProvider(t), testkit.Door(t)
	admit := func(labels ...string) {
		t.Helper()
		if err := door.Tx(t.Context(), acme, func(ctx context.Context, tx pgx.Tx) error {
			_, err := access.AddUser(ctx, tx, acme, "test",
				access.User{Issuer: p.url, Subject: "ada", Role: access.Viewer, Labels: labels})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	many := make([]any, access.MaxLabels+1)
	for i := range many {
		many[i] = fmt.Sprint("group ", i)
	}
	for name, c := range map[string]struct {
		own    []string
		mapped map[string][]string
		claim  any
		want   string
	}{
		"none":                  {nil, nil, nil, "[]"},
		"a list":                {nil, nil, []any{"legal", "hr", "legal"}, "[hr legal]"},
		"one text":              {nil, nil, "legal", "[legal]"},
		"beside the user's own": {[]string{"board"}, nil, []any{"legal"}, "[board legal]"},
		"beside every one":      {[]string{tenantdb.AllLabelsName}, nil, []any{"legal"}, "[*]"},
		"a star is none":        {nil, nil, []any{"*", "legal"}, "[legal]"},
		"what is no label": {nil, nil,
			[]any{"", 7, true, nil, map[string]any{"a": 1}, []any{"hr"}, strings.Repeat("x", 101), "a\x00b", "legal"},
			"[legal]"},
		"an object": {nil, nil, map[string]any{"legal": true}, "[]"},
		"mapped": {nil, map[string][]string{"G1": {"legal"}, "G2": {"hr", "board"}},
			[]any{"G1", "G2", "legal2"}, "[board hr legal]"},
		"mapped, and not by name": {nil, map[string][]string{"G1": {"legal"}}, []any{"legal", "hr"}, "[]"},
		"mapped to every one": {nil, map[string][]string{"admins": {tenantdb.AllLabelsName}},
			[]any{"admins"}, "[*]"},
		"signs":    {nil, nil, []any{`a"b`, `c\d`, `{e}`, `f,g`, `h'i`, " "}, `[  a"b c\d f,g h'i {e}]`},
		"too many": {nil, nil, many, "refused"},
	} {
		admit(append([]string{}, c.own...)...)
		people, err := access.NewAuthenticator(door,
			access.Issuer{URL: p.url, Audience: "konstruct", Tenant: acme, LabelsClaim: "groups", Labels: c.mapped,
				Client: http.DefaultClient})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now().Unix()
		claims := map[string]any{"iss": p.url, "aud": "konstruct", "sub": "ada", "iat": now, "exp": now + 300}
		if c.claim != nil {
			claims["groups"] = c.claim
		}
		w, err := people.Check(t.Context(), sign(t, jose.RS256, p.key, claims))
		got := fmt.Sprint(w.Labels().Names())
		if errors.Is(err, access.ErrUnauthenticated) {
			got = "refused"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s (%v)", name, got, c.want, err)
		}
		// As the database sees them, too.
		if err == nil && !w.Labels().All() {
			sees := tenantdb.WithLabels(t.Context(), w.Labels())
			if err := door.Query(sees, acme, `SELECT kb_granted()`, nil, func(rows pgx.Rows) error {
				labels, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]string])
				if fmt.Sprint(labels) != c.want {
					t.Errorf("%s: the database has %q", name, labels)
				}
				return err
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
