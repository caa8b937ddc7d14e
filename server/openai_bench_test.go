package server_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/testkit"
)

// BenchmarkVectorStoreSearch measures a search in a vector store, alternately with the API's search of the same
// collection: what OpenAI's form of it adds.
func BenchmarkVectorStoreSearch(b *testing.B) {
	w := serveFor(b, testkit.Database(b))
	w.work()
	key := w.key(acme)
	vs := w.openAIOK("POST", "vector_stores", key, `{"name":"bench"}`).text("id")
	for i := range 50 {
		f := w.form(key, "files", "file", fmt.Sprintf("%d.md", i), fmt.Sprintf("%s\n\nPump number %d.", handbook, i),
			"purpose", "assistants").text("id")
		w.openAIOK("POST", "vector_stores/"+vs+"/files", key, `{"file_id":"`+f+`"}`)
	}
	w.settled(key, "vector_stores/"+vs)
	times := map[string][]time.Duration{}
	measure := func(name string, ask func() reply) {
		begin := time.Now()
		if r := ask(); r.StatusCode != 200 {
			b.Fatalf("%s: %d %s", name, r.StatusCode, r.body)
		}
		times[name] = append(times[name], time.Since(begin))
	}
	store := func() {
		measure("store", func() reply {
			return w.ask("POST", "/openai/v1/vector_stores/"+vs+"/search", key, `{"query":"How do I return a pump?"}`)
		})
	}
	api := func() {
		measure("api", func() reply {
			return w.ask("POST", "/v1/search", key,
				`{"text":"How do I return a pump?","collections":["bench"],"top_k":10}`)
		})
	}
	for turn := 0; b.Loop(); turn++ {
		if turn%2 == 0 {
			store()
			api()
		} else {
			api()
			store()
		}
	}
	median := map[string]float64{}
	for name, of := range times {
		slices.Sort(of)
		median[name] = float64(of[len(of)/2].Microseconds())
		b.ReportMetric(median[name], name+"-p50-µs")
	}
	b.ReportMetric(median["store"]-median["api"], "added-µs")
	b.ReportMetric(median["store"]/median["api"], "ratio")
}
