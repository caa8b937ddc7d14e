package search_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// BenchmarkFilters finds among 50,000 documents those that meet a filter, and beside each the SQL that did the same
// before filters knew lists, nested keys and types. ratio is how long a filter takes against that.
func BenchmarkFilters(b *testing.B) {
	d := testkit.Database(b)
	door := testkit.DoorOf(b, d)
	for _, sql := range []string{
		`INSERT INTO kb_documents (tenant_id, id, agent_id, filename, content_type, created_at)
			SELECT $1::uuid, md5('doc' || n)::uuid, $1::uuid, 'doc' || n, 'text/plain', '2026-01-01'
			FROM generate_series(1, 50000) n`,
		`INSERT INTO kb_sources (tenant_id, document_id, source, title, bytes, content_sha256, recipe, given, labels,
			language, ingested_at)
			SELECT $1::uuid, md5('doc' || n)::uuid, 'test:' || n, '', 1, sha256('x'), 'r', jsonb_build_object('team',
			'team ' || n % 97, 'n', n, 'region', (ARRAY['us', 'eu', 'ap'])[1 + n % 3], 'author', 'someone ' || n,
			'day', to_char('2020-01-01'::date + n % 2000, 'YYYY-MM-DD')), '{}', 'english', '2026-01-01'
			FROM generate_series(1, 50000) n`} {
		if err := door.Query(b.Context(), tenantA, sql, []any{tenantA}, nil); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := testkit.Connect(b, d.URL("konstruct_owner")).Exec(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
	has := func(key, value string) string {
		return fmt.Sprintf("(coalesce(s.given->>'%s'::text, '') = '%s'::text AND s.given ? '%[1]s'::text)", key, value)
	}
	var teams, had []string
	for n := range 100 {
		team := fmt.Sprintf("team %d", n+50)
		teams, had = append(teams, `"`+team+`"`), append(had, has("team", team))
	}
	for _, c := range []struct{ name, filter, before string }{
		{"eq", `{"type":"eq","key":"metadata.team","value":"team 5"}`, has("team", "team 5")},
		{"eq of a condition", `metadata.n=5`, has("n", "5")},
		{"in of 100", `{"type":"in","key":"metadata.team","value":[` + strings.Join(teams, ",") + `]}`,
			"(" + strings.Join(had, " OR ") + ")"},
		{"and, or", `{"type":"and","filters":[{"type":"eq","key":"metadata.region","value":"us"},
			{"type":"or","filters":[{"type":"eq","key":"metadata.team","value":"team 5"},
			{"type":"ne","key":"metadata.team","value":"team 6"}]}]}`,
			has("region", "us") + " AND (" + has("team", "team 5") + " OR NOT coalesce(" + has("team", "team 6") +
				", false))"},
		{"range of dates", `{"type":"and","filters":[{"type":"gte","key":"metadata.day","value":"2021-01-01"},
			{"type":"lt","key":"metadata.day","value":"2021-02-01"}]}`,
			`coalesce(s.given->>'day'::text COLLATE "C" >= '2021-01-01'::text, false) AND ` +
				`coalesce(s.given->>'day'::text COLLATE "C" < '2021-02-01'::text, false)`},
		{"range of numbers", `{"type":"lt","key":"metadata.n","value":100}`,
			`CASE WHEN jsonb_typeof(s.given->'n'::text) = 'number' THEN
				(s.given->'n'::text)::numeric < 100::float8::numeric
				WHEN s.given->>'n'::text ~ '^-?[0-9]{1,30}(\.[0-9]{1,30})?$' THEN
				(s.given->>'n'::text)::numeric < 100::float8::numeric ELSE false END`},
	} {
		q := filtered(b, c.filter)
		sql, args, err := search.ConditionsSQL(&q)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			var counts [2]int
			count := func(i int, where string, args []any) time.Duration {
				begin := time.Now()
				if err := door.Once(b.Context(), tenantA, tenantdb.Statement{SQL: `SELECT count(*) FROM kb_documents d
					LEFT JOIN kb_sources s ON s.tenant_id = '` + tenantA.String() + `' AND s.document_id = d.id
					WHERE d.tenant_id = '` + tenantA.String() + `' AND ` + where, Args: args,
					Settings: [][2]string{{"jit", "off"}}},
					func(rows pgx.Rows) (err error) {
						counts[i], err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
						return err
					}); err != nil {
					b.Fatal(err)
				}
				return time.Since(begin)
			}
			now, before := time.Hour, time.Hour // the least of each: other programs only add to it
			for b.Loop() {
				now, before = min(now, count(0, sql, args)), min(before, count(1, c.before, nil))
			}
			if counts[0] != counts[1] || counts[0] == 0 {
				b.Errorf("%d documents, and %d before", counts[0], counts[1])
			}
			b.ReportMetric(float64(now)/float64(before), "ratio")
			b.ReportMetric(float64(now.Microseconds())/1000, "ms")
		})
	}
}
