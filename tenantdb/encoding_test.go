package tenantdb_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestADatabaseOfAnotherEncodingIsRefused by whatever opens it.
func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	d := testkit.Database(t)
	const name = "latin"
	if _, err := testkit.Connect(t, d.SuperuserURL()).Exec(t.Context(), `CREATE DATABASE `+name+
		` ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`); err != nil {
		t.Fatal(err)
	}
	latin := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + name
		return u.String()
	}
	const want = "the database's encoding is LATIN1, it must be UTF8: create it with ENCODING 'UTF8' TEMPLATE template0"
	check := func(what string, err error) {
		t.Helper()
		if e := (*tenantdb.EncodingError)(nil); !errors.As(err, &e) || e.Error() != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	door, err := tenantdb.Open(t.Context(), latin(d.URL("konstruct_app")))
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	check("ping", door.Ping(t.Context()))
	_, err = door.Doctor(t.Context())
	check("doctor", err)
	evidence, err := tenantdb.OpenEvidence(t.Context(), latin(d.URL("konstruct_notary")))
	if err != nil {
		t.Fatal(err)
	}
	defer evidence.Close()
	check("evidence", evidence.Snapshot(t.Context(), func(pgx.Tx) error { return nil }))
}
