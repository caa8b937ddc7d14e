package tenantdb_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestTheDoctorSeesALocaleOfASCII has a database whose locale leaves É as it is in lower case: words would be found in
// one case only.
func TestTheDoctorSeesALocaleOfASCII(t *testing.T) {
	d := testkit.Database(t)
	if _, err := testkit.Connect(t, d.SuperuserURL()).Exec(t.Context(),
		`CREATE DATABASE ascii ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(d.URL("konstruct_app"))
	if err != nil {
		t.Fatal(err)
	}
	ascii := *u
	ascii.Path = "/ascii"
	for raw, want := range map[string]bool{u.String(): true, ascii.String(): false} {
		door, err := tenantdb.Open(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		defer door.Close()
		checks, err := door.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(checks, func(c tenantdb.Check) bool { return strings.HasPrefix(c.Name, "the locale ") })
		if i < 0 || checks[i].OK != want || checks[i].Fix == "" {
			t.Errorf("%s: check %d of %v", raw, i, checks)
		}
	}
}
