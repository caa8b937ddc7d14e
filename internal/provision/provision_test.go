package provision

import (
	"strings"
	"testing"

	"github.com/konstruct/konstruct/migrations"
)

// TestAVerifierIsPostgresOwn: RFC 7677's example, written as PostgreSQL stores it.
func TestAVerifierIsPostgresOwn(t *testing.T) {
	salt := []byte{0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81}
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" +
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if got, err := verifier("pencil", salt); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestURLsOfRolesHaveTheServersTLSAndNoneOfItsSecrets(t *testing.T) {
	for _, c := range []struct{ admin, address, want string }{
		{"postgres://postgres:secret@db:5433/postgres?sslmode=require&sslpassword=x&sslsni=0", "",
			"postgres://r:p@db:5433/k?sslmode=require&sslsni=0"},
		{"host=db user=postgres password='se cret' sslmode=verify-full", "",
			"postgres://r:p@db:5432/k?sslmode=verify-full"},
		{"host=/run/postgresql user=postgres", "", "postgres://r:p@/k?host=%2Frun%2Fpostgresql&port=5432"},
		{"host=/run/postgresql user=postgres", "127.0.0.1:6000", "postgres://r:p@127.0.0.1:6000/k"},
		{"postgres://postgres@db/", "[::1]", "postgres://r:p@[::1]:5432/k"},
		{"postgres://postgres@a:1,b:2/x?target_session_attrs=primary", "",
			"postgres://r:p@a:1,b:2/k?target_session_attrs=primary"},
	} {
		target, err := NewTarget(c.admin, c.address, "k")
		if got := target.URL("r", "p"); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, not %s", c.admin, got, err, c.want)
		}
	}
	for _, bad := range []string{"a b", "db:70000", "db:x", "u@db"} {
		if _, err := NewTarget("host=db", bad, "k"); err == nil {
			t.Errorf("address %q is taken", bad)
		}
	}
	_, err := NewTarget("postgres://u:secret word@db/", "", "k")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestAnotherDatabaseOfTheSameServer(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:p@h:1/x?sslmode=disable": "postgres://u:p@h:1/k?sslmode=disable",
		"postgres://u@h?dbname=x":              "postgres://u@h/k",
		"host=h dbname=x":                      "host=h dbname=x dbname='k'",
	} {
		if got := WithDatabase(in, "k"); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestRolesAreNeverStrong(t *testing.T) {
	roles := migrations.Roles()
	if len(roles) != 5 || roles[0].Name != migrations.Owner {
		t.Fatal(roles)
	}
	for _, r := range roles {
		sql := r.Create("x")
		if r.Purpose == "" ||
			!strings.Contains(sql, " LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD 'x'") {
			t.Error(sql)
		}
	}
}
