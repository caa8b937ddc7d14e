package search_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"
)

// BenchmarkLabels searches a tenant of 20,000 passages in 2,000 documents, of which some have a label: as somebody who
// has every label (the baseline), as one who has that label, and as one who has not. ratio is how long a search takes
// against the baseline's.
func BenchmarkLabels(b *testing.B) {
	door := testkit.Door(b)
	fill(b, door, tenantA, 0, 2000)
	question := search.Query{Mode: search.Semantic, Vector: near(1, 3, 0.3), K: 10}
	words := search.Query{Mode: search.Lexical, Text: "pumps passage3", K: 10}
	for _, labelled := range []int{0, 20, 1000} {
		sql := `UPDATE kb_sources SET labels = CASE WHEN substring(source
			FROM '[0-9]+$')::integer < $2 THEN '{legal}'::text[] ELSE '{}' END WHERE tenant_id = $1`
		if err := door.Query(b.Context(), tenantA, sql, []any{tenantA, labelled}, nil); err != nil {
			b.Fatal(err)
		}
		if err := door.Query(b.Context(), tenantA, `SELECT 1`, nil, nil); err != nil {
			b.Fatal(err)
		}
		for name, q := range map[string]search.Query{"by meaning": question, "by words": words} {
			var every time.Duration
			for _, as := range []struct {
				name   string
				labels tenantdb.Labels
			}{{"every label", tenantdb.AllLabels()}, {"the label", tenantdb.LabelsOf("legal")},
				{"no label", tenantdb.LabelsOf()}} {
				b.Run(fmt.Sprintf("%d labelled/%s/%s", labelled, name, as.name), func(b *testing.B) {
					ctx, s := tenantdb.WithLabels(b.Context(), as.labels), search.NewSearcher()
					find := func(ctx context.Context) {
						if _, err := s.Search(ctx, door, tenantA, q); err != nil {
							b.Fatal(err)
						}
					}
					find(ctx)
					for b.Loop() {
						find(ctx)
					}
					if each := b.Elapsed() / time.Duration(b.N); as.labels.All() {
						every = each
					} else {
						b.ReportMetric(float64(each)/float64(every), "ratio")
					}
				})
			}
		}
	}
}
