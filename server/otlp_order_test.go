package server_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestWhatIsMappedIsStoredByteForByte holds that metadata is written as PostgreSQL shows it: the comparison of what was
// stored with what was sent then decodes neither.
func TestWhatIsMappedIsStoredByteForByte(t *testing.T) {
	w := serve(t)
	cases, _ := recordings(t)
	db, err := pgx.Connect(t.Context(), w.d.SuperuserURL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	same, other := 0, 0
	for _, files := range cases {
		for _, f := range files {
			for m := range mappedFile(t, f) {
				if m.Dropped {
					continue
				}
				var stored string
				if err := db.QueryRow(t.Context(), "SELECT $1::jsonb::text", string(m.Event.Metadata)).
					Scan(&stored); err != nil {
					t.Fatal(err)
				}
				if stored == string(m.Event.Metadata) {
					same++
				} else if other++; other < 4 {
					t.Logf("%s\nsent   %s\nstored %s", f, m.Event.Metadata, stored)
				}
			}
		}
	}
	if t.Logf("%d as sent, %d otherwise", same, other); other*20 > same {
		t.Errorf("%d of %d are shown otherwise than they were sent", other, same+other)
	}
}
