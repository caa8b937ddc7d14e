package eval

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Ranked is a document that a search returned.
type Ranked struct {
	Doc   string
	Score float64
}

// Run holds the documents returned for each query, best first.
type Run map[string][]Ranked

// Measure is a measure as trec_eval defines it: nDCG uses the judgement as gain and log2(rank+1) as discount; AP counts
// relevant documents that were not returned.
type Measure struct {
	Name string
	of   func(ranked []Ranked, judged map[string]int) float64
}

// Measures returns all measures.
func Measures() []Measure {
	return []Measure{{"nDCG@10", ndcg(10)}, {"Recall@10", recall(10)}, {"Recall@100", recall(100)}, {"MRR@10", mrr(10)},
		{"MAP@100", ap(100)}}
}

// Score is the mean of a measure over all queries, with its 95 % bootstrap interval.
type Score struct {
	Measure string  `json:"measure"`
	Mean    float64 `json:"mean"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
}

// bootstraps is the number of resamples; the seed is fixed.
const bootstraps = 2000

// Evaluate computes the scores of a run. A query without results counts as 0. Without queries there are no scores.
func Evaluate(c *Collection, run Run) (scores []Score) {
	if len(c.Queries) == 0 {
		return nil
	}
	for _, m := range Measures() {
		each := make([]float64, len(c.Queries))
		for i, q := range c.Queries {
			each[i] = m.of(run[q.ID], c.Judged[q.ID])
		}
		low, high := interval(each)
		scores = append(scores, Score{m.Name, mean(each), low, high})
	}
	return scores
}

func mean(all []float64) (sum float64) {
	for _, v := range all {
		sum += v
	}
	return sum / float64(len(all))
}

func interval(each []float64) (low, high float64) {
	draw := rand.New(rand.NewPCG(1, 2))
	means, again := make([]float64, bootstraps), make([]float64, len(each))
	for i := range means {
		for j := range again {
			again[j] = each[draw.IntN(len(each))]
		}
		means[i] = mean(again)
	}
	slices.Sort(means)
	return means[bootstraps*25/1000], means[bootstraps*975/1000]
}

// Order sorts documents as trec_eval does: by score in single precision, and equal scores by name in descending order.
// Equal scores are first spread out, to keep the order in which they were returned.
func Order(returned []Ranked) []Ranked {
	all := slices.Clone(returned)
	slices.SortStableFunc(all, func(a, b Ranked) int { return cmp.Compare(b.Score, a.Score) })
	above := float32(math.Inf(1))
	for i := range all {
		s := float32(all[i].Score)
		if s >= above {
			s = math.Nextafter32(above, float32(math.Inf(-1)))
		}
		all[i].Score, above = float64(s), s
	}
	return all
}

func relevance(judged map[string]int) (n int) {
	for _, s := range judged {
		if s > 0 {
			n++
		}
	}
	return n
}

func ndcg(k int) func([]Ranked, map[string]int) float64 {
	return func(ranked []Ranked, judged map[string]int) float64 {
		var got, best float64
		for i, r := range ranked[:min(k, len(ranked))] {
			got += float64(max(0, judged[r.Doc])) / math.Log2(float64(i+2))
		}
		gains := make([]int, 0, len(judged))
		for _, s := range judged {
			gains = append(gains, max(0, s))
		}
		slices.SortFunc(gains, func(a, b int) int { return b - a })
		for i, g := range gains[:min(k, len(gains))] {
			best += float64(g) / math.Log2(float64(i+2))
		}
		if best == 0 {
			return 0
		}
		return got / best
	}
}

func recall(k int) func([]Ranked, map[string]int) float64 {
	return func(ranked []Ranked, judged map[string]int) float64 {
		n := 0
		for _, r := range ranked[:min(k, len(ranked))] {
			if judged[r.Doc] > 0 {
				n++
			}
		}
		return float64(n) / float64(max(1, relevance(judged)))
	}
}

func mrr(k int) func([]Ranked, map[string]int) float64 {
	return func(ranked []Ranked, judged map[string]int) float64 {
		for i, r := range ranked[:min(k, len(ranked))] {
			if judged[r.Doc] > 0 {
				return 1 / float64(i+1)
			}
		}
		return 0
	}
}

func ap(k int) func([]Ranked, map[string]int) float64 {
	return func(ranked []Ranked, judged map[string]int) float64 {
		n, sum := 0, 0.0
		for i, r := range ranked[:min(k, len(ranked))] {
			if judged[r.Doc] > 0 {
				n++
				sum += float64(n) / float64(i+1)
			}
		}
		return sum / float64(max(1, relevance(judged)))
	}
}
