package server_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/otel"
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

// TestNumbersAreWrittenAsPostgreSQLWritesThem holds numbers with exponents, whose size counts as they are stored.
func TestNumbersAreWrittenAsPostgreSQLWritesThem(t *testing.T) {
	db := testkit.Connect(t, testkit.Database(t).SuperuserURL())
	traces := ptrace.NewTraces()
	m := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().Attributes()
	m.PutStr("gen_ai.operation.name", "chat")
	m.PutStr("gen_ai.input.messages", `[{"role": "user", "parts": [1.50e1, 15e-1, 1e3, 0.001e2, 100e-2, 1E+5, `+
		`-2.5e-7, -1.25E3, 1e21, 123456789012345678901234567890, 1e308, 0.5, 12.00, 3e0, 0.00e1]}]`)
	for i, f := range []float64{1e21, 1e22, 1.5e300, 5e-324, -1e-9, 1e-10, 0.1, 123456.75, 1 << 53} {
		m.PutDouble(fmt.Sprint("float ", i), f)
	}
	for e := range otel.Spans(traces, otel.Options{}) {
		var stored string
		err := db.QueryRow(t.Context(), "SELECT $1::jsonb::text", string(e.Event.Metadata)).Scan(&stored)
		if err != nil {
			t.Fatal(err)
		}
		if stored != string(e.Event.Metadata) {
			t.Errorf("written %s\nstored  %s", e.Event.Metadata, stored)
		}
	}
}
