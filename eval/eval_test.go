package eval_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/konstruct/konstruct/eval"
	"github.com/konstruct/konstruct/internal/devpg"
)

func collection(t *testing.T, files map[string]string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "qrels"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := eval.Read(dir, "test")
	return dir, err
}

func TestACollectionIsRead(t *testing.T) {
	good := map[string]string{
		"corpus.jsonl": `{"_id": "d1", "title": "One", "text": "first"}` + "\n\n" +
			`{"_id": "d2", "text": "second", "metadata": {}}` +
			"\n", "queries.jsonl": `{"_id": "q1", "text": "which?"}` + "\n" + `{"_id": "q2", "text": "unjudged"}`,
		"qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n",
	}
	dir, err := collection(t, good)
	if err != nil {
		t.Fatal(err)
	}
	c, err := eval.Read(dir, "test")
	want := eval.Collection{Docs: []eval.Doc{{ID: "d1", Title: "One", Text: "first"}, {ID: "d2", Text: "second"}},
		Queries: []eval.Query{{ID: "q1", Text: "which?"}}, Judged: map[string]map[string]int{"q1": {"d1": 2, "d2": 0}}}
	if d := cmp.Diff(want, c); d != "" || err != nil {
		t.Error(d, err)
	}
	for file, bad := range map[string][2]string{
		"corpus.jsonl":   {`{"_id": "d1"}` + "\n{", "corpus.jsonl:2:"},
		"queries.jsonl":  {`{"_id": "q1"}` + "\n" + `{"_id": "q1"}`, "there twice"},
		"qrels/test.tsv": {"q1\td1", "it is not a question, a document and a score"},
	} {
		files := map[string]string{}
		for k, v := range good {
			files[k] = v
		}
		files[file] = bad[0]
		if _, err := collection(t, files); err == nil || !strings.Contains(err.Error(), bad[1]) {
			t.Errorf("%s: %v, want %q", file, err, bad[1])
		}
	}
	if _, err := eval.Read(dir, "../test"); err == nil {
		t.Error("a split outside of the folder is read")
	}
	if _, err := eval.Read(dir, "dev"); err == nil {
		t.Error("a split that is not there is read")
	}
}

// TestFiguresAreTrecEvals holds each measure against trec_eval's own code (pytrec_eval), over runs with ties, unjudged
// documents, graded answers and questions without an answer.
func TestFiguresAreTrecEvals(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	c := eval.Collection{Judged: map[string]map[string]int{}}
	run := eval.Run{}
	for q := range 60 {
		id := fmt.Sprintf("q%d", q)
		c.Queries = append(c.Queries, eval.Query{ID: id})
		c.Judged[id] = map[string]int{"never": 1}
		for range 1 + draw.IntN(40) {
			c.Judged[id][fmt.Sprintf("d%d", draw.IntN(300))] = draw.IntN(4)
		}
		var ranked []eval.Ranked
		for _, d := range draw.Perm(300)[:1+draw.IntN(200)] {
			ranked = append(ranked, eval.Ranked{Doc: fmt.Sprintf("d%d", d), Score: float64(draw.IntN(20)) / 7})
		}
		run[id] = eval.Order(ranked)
	}
	var trec bytes.Buffer
	if err := eval.WriteTREC(&trec, &c, run, "x"); err != nil {
		t.Fatal(err)
	}
	judged, err := json.Marshal(c.Judged)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", `
import json, sys, pytrec_eval
judged = json.loads(sys.argv[1])
run = {}
for line in sys.stdin:
    q, _, d, _, s, _ = line.split()
    run.setdefault(q, {})[d] = float(s)
cut = {q: dict(sorted(r.items(), key=lambda i: -i[1])[:10]) for q, r in run.items()}
e = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "recall.10,100", "map_cut.100"}).evaluate(run)
f = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(cut)
mean = lambda e, m: sum(v[m] for v in e.values()) / len(judged)
print(json.dumps([mean(e, "ndcg_cut_10"), mean(e, "recall_10"), mean(e, "recall_100"), mean(f, "recip_rank"),
                  mean(e, "map_cut_100")]))`, string(judged))
	cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(devpg.AssetsDir(), "readers"))
	cmd.Stdin = &trec
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s (make setup brings pytrec_eval)", err, stderr.String())
	}
	var theirs []float64
	if err := json.Unmarshal(out, &theirs); err != nil {
		t.Fatal(err)
	}
	for i, f := range eval.Evaluate(&c, run) {
		if math.Abs(f.Mean-theirs[i]) > 0.00005 {
			t.Errorf("%s is %.6f, and trec_eval's is %.6f", f.Measure, f.Mean, theirs[i])
		}
		if !(f.Low <= f.Mean && f.Mean <= f.High && f.High-f.Low < 0.3) {
			t.Errorf("%s: interval %v to %v about %v", f.Measure, f.Low, f.High, f.Mean)
		}
	}
}

// TestACollectionThatMeasuresNothingIsRefused, where its figures would be zeros.
func TestACollectionThatMeasuresNothingIsRefused(t *testing.T) {
	good := map[string]string{
		"corpus.jsonl":   `{"_id": "d1", "text": "first"}` + "\n" + `{"_id": "d2", "title": " ", "text": ""}`,
		"queries.jsonl":  `{"_id": "q1", "text": "which?"}` + "\n" + `{"_id": "q2", "text": "what?"}`,
		"qrels/test.tsv": "q1\td1\t2\nq2\td2\t1\n",
	}
	dir, err := collection(t, good)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := eval.Read(dir, "test"); err != nil || len(c.Unanswered) != 1 || c.Unanswered[0] != "q2" {
		t.Errorf("%v, %v", c.Unanswered, err)
	}
	for what, change := range map[string][2]string{
		"no documents":             {"corpus.jsonl", ""},
		"empty documents":          {"corpus.jsonl", `{"_id": "d1", "text": " \n"}` + "\n" + `{"_id": "d2"}`},
		"no questions":             {"queries.jsonl", ""},
		"no judgements":            {"qrels/test.tsv", ""},
		"judgements of others":     {"qrels/test.tsv", "q9\td1\t1\n"},
		"answers that are none":    {"qrels/test.tsv", "q1\td1\t0\nq2\td1\t-1\n"},
		"answers that are not in":  {"qrels/test.tsv", "q1\td8\t1\nq2\td9\t2\n"},
		"answers that are empty":   {"qrels/test.tsv", "q1\td2\t1\n"},
		"only the documents' head": {"qrels/test.tsv", "query-id\tcorpus-id\tscore\n"},
	} {
		files := maps.Clone(good)
		files[change[0]] = change[1]
		if _, err := collection(t, files); !errors.Is(err, eval.ErrNothing) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if figures := eval.Evaluate(&eval.Collection{}, eval.Run{}); len(figures) != 0 {
		t.Errorf("of no questions: %v", figures)
	}
}
