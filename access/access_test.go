package access_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	acme   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	globex = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	pepper = []byte(strings.Repeat("p", access.MinPepper))
)

func keysOf(t *testing.T, door *tenantdb.Door) *access.Keys {
	t.Helper()
	k, err := access.NewKeys(door, pepper)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func makeKey(t *testing.T, door *tenantdb.Door, k *access.Keys, tenant uuid.UUID,
	a access.KeyRequest) (key string, made access.Key, err error) {
	t.Helper()
	err = door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		key, made, err = k.Create(ctx, tx, tenant, "a test", a)
		return err
	})
	return key, made, err
}

func TestAKeyIsKnownAgainAndOnlyWhole(t *testing.T) {
	door := testkit.Door(t)
	k := keysOf(t, door)
	key, made, err := makeKey(t, door, k, acme,
		access.KeyRequest{Name: "ci", Permissions: []access.Permission{access.EventsRead}})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^kst_[0-9A-Za-z]{82}$`).MatchString(key) {
		t.Errorf("the key is %s", key)
	}
	w, err := k.Check(t.Context(), key)
	if err != nil || w.Tenant != acme || w.Credential != made.ID || !w.Can(access.EventsRead) ||
		w.Can(access.EventsWrite) {
		t.Errorf("known as %+v, %v", w, err)
	}
	for i := range key { // any one letter of it is another
		other := []byte(key)
		if other[i]++; i >= 4 && other[i] == '9'+1 {
			other[i] = 'A'
		}
		if _, err := k.Check(t.Context(), string(other)); !errors.Is(err, access.ErrUnauthenticated) {
			t.Fatalf("with letter %d changed: %v", i, err)
		}
	}
	for _, bad := range []string{"", "kst_", key[:len(key)-1], key + "0", strings.ToUpper(key), " " + key} {
		if _, err := k.Check(t.Context(), bad); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	elsewhere, err := access.NewKeys(door, []byte(strings.Repeat("q", access.MinPepper)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Check(t.Context(), key); !errors.Is(err, access.ErrUnauthenticated) {
		t.Errorf("with another secret: %v", err)
	}
	if _, err := access.NewKeys(door, []byte("short")); err == nil {
		t.Error("a short secret is taken")
	}
}

func TestWhatIsAskedOfAKeyIsChecked(t *testing.T) {
	door := testkit.Door(t)
	k := keysOf(t, door)
	may := []access.Permission{access.EventsRead}
	for field, a := range map[string]access.KeyRequest{
		"name": {Name: " ", Permissions: may}, "name ": {Name: strings.Repeat("x", 201), Permissions: may},
		"name  ":      {Name: "a\nb", Permissions: may},
		"permissions": {Name: "x"}, "permissions ": {Name: "x", Permissions: []access.Permission{"events:all"}},
		"permissions  ": {Name: "x", Permissions: []access.Permission{access.KBRead, access.KBRead}},
		"expires_at":    {Name: "x", Permissions: may, ExpiresAt: time.Now().Add(-time.Second)},
	} {
		_, _, err := makeKey(t, door, k, acme, a)
		var wrong *access.FieldError
		if !errors.As(err, &wrong) || wrong.Field != strings.TrimSpace(field) {
			t.Errorf("%+v: %v, want %s", a, err, field)
		}
	}
}

// TestNothingOfAnotherTenantIsReached by any query of this package: of another tenant, none, or a forged one.
func TestNothingOfAnotherTenantIsReached(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	k := keysOf(t, door)
	_, made, err := makeKey(t, door, k, acme,
		access.KeyRequest{Name: "theirs", Permissions: access.Admin.Permissions()})
	if err != nil {
		t.Fatal(err)
	}
	var user access.User
	who := access.LocalOperator(acme, "test")
	replies := access.Replies{Door: door}
	in := func(tenant uuid.UUID, fn func(context.Context, pgx.Tx) error) error {
		return door.Tx(t.Context(), tenant, fn)
	}
	if err := in(acme, func(ctx context.Context, tx pgx.Tx) error {
		if user, err = access.AddUser(ctx, tx, acme, "test",
			access.User{Issuer: "https://id.example", Subject: "ada", Role: access.Admin}); err != nil {
			return err
		}
		return access.SetLimits(ctx, tx, acme, "test", access.Limits{EventsPerSecond: 7})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := replies.Begin(t.Context(), who, "k", [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	meter := access.NewMeter(door, access.DefaultLimits)
	for _, tenant := range []uuid.UUID{globex, uuid.New()} {
		if keys, err := k.List(t.Context(), tenant, uuid.Nil, 10); err != nil || len(keys) != 0 {
			t.Errorf("keys: %v, %v", keys, err)
		}
		if users, err := access.Users(t.Context(), door, tenant, uuid.Nil, 10); err != nil || len(users) != 0 {
			t.Errorf("users: %v, %v", users, err)
		}
		if l, err := meter.Limits(t.Context(), tenant); err != nil || l != access.DefaultLimits {
			t.Errorf("limits: %+v, %v", l, err)
		}
		if r, err := replies.Begin(t.Context(), access.LocalOperator(tenant, "test"), "k", [32]byte{2}); r != nil ||
			err != nil {
			t.Errorf("a request of the same key: %v, %v", r, err)
		}
		// Also where its own tenant is set and another's is named.
		for _, named := range []uuid.UUID{tenant, acme} {
			err := in(tenant, func(ctx context.Context, tx pgx.Tx) error {
				_, err := k.Revoke(ctx, tx, named, made.ID)
				return err
			})
			if !errors.Is(err, access.ErrNotFound) {
				t.Errorf("revoke: %v", err)
			}
			err = in(tenant, func(ctx context.Context, tx pgx.Tx) error {
				_, _, err := k.Rotate(ctx, tx, named, made.ID, "x", 0, func(access.Key) error { return nil })
				return err
			})
			if !errors.Is(err, access.ErrNotFound) {
				t.Errorf("rotate: %v", err)
			}
			err = in(tenant, func(ctx context.Context, tx pgx.Tx) error {
				_, err := access.RemoveUser(ctx, tx, named, user.ID)
				return err
			})
			if !errors.Is(err, access.ErrNotFound) {
				t.Errorf("dismiss: %v", err)
			}
		}
		if err := in(tenant, func(ctx context.Context, tx pgx.Tx) error {
			return access.SetLimits(ctx, tx, acme, "x", access.Limits{})
		}); err == nil {
			t.Error("another tenant's limits are set")
		}
	}
	for name, err := range map[string]error{
		"list":  second(k.List(t.Context(), uuid.Nil, uuid.Nil, 10)),
		"users": second(access.Users(t.Context(), door, uuid.Nil, uuid.Nil, 10)),
	} {
		if !errors.Is(err, tenantdb.ErrNoTenant) {
			t.Errorf("%s without a tenant: %v", name, err)
		}
	}
	keys, err := k.List(t.Context(), acme, uuid.Nil, 10)
	if err != nil || len(keys) != 1 || keys[0].RevokedAt != nil {
		t.Errorf("what was there: %+v, %v", keys, err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestRolesMayWhatTheyMay, and an auditor changes nothing.
func TestRolesMayWhatTheyMay(t *testing.T) {
	want := map[access.Role][]access.Permission{
		access.Viewer: {access.EventsRead, access.KBRead},
		access.Auditor: {access.EventsRead, access.KBRead, access.EvidenceRead, access.ComplianceRead,
			access.AccessRead, access.WebhooksRead},
		access.Operator: {access.EventsRead, access.KBRead, access.EventsWrite, access.EscalationsWrite,
			access.GatewayUse, access.KBWrite, access.WebhooksRead, access.WebhooksWrite},
		access.Compliance: {access.EventsRead, access.KBRead, access.EvidenceRead, access.ComplianceRead,
			access.ComplianceWrite, access.AccessRead, access.WebhooksRead},
		access.Admin: {access.EventsRead, access.EventsWrite, access.EscalationsWrite, access.GatewayUse,
			access.EvidenceRead, access.KBRead, access.KBWrite, access.ComplianceRead, access.ComplianceWrite,
			access.AccessRead, access.AccessWrite, access.WebhooksRead, access.WebhooksWrite},
	}
	for _, r := range append(access.Roles, "nobody") {
		if d := cmp.Diff(want[r], r.Permissions()); d != "" {
			t.Errorf("%s: %s", r, d)
		}
	}
}

func FuzzKey(f *testing.F) {
	door, err := tenantdb.Open(context.Background(), "postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		f.Fatal(err)
	}
	defer door.Close()
	f.Add("kst_" + strings.Repeat("0", 82))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tenant, _, ok := access.ParseKey(s)
		if ok && (len(s) != 86 || tenant == uuid.Nil) {
			t.Errorf("%q is a key of %s", s, tenant)
		}
	})
}
