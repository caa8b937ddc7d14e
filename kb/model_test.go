package kb_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/search"
)

// wide is another model, of 512 dimensions: the real one, the first of its numbers twice.
type wide struct{ embed.Embedder }

func (wide) Name() string    { return "wide" }
func (wide) Dimensions() int { return 512 }

func (w wide) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vectors, err := w.Embedder.Embed(ctx, texts)
	for i := range vectors {
		vectors[i] = append(vectors[i], vectors[i][:128]...)
	}
	return vectors, err
}

// serve has a tenant's searches be by a model.
func (b *base) serve(t *testing.T, tenant uuid.UUID, model string) error {
	t.Helper()
	return b.door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := kb.ServeModel(ctx, tx, tenant, model)
		return err
	})
}

// ask searches by a model.
func (b *base) ask(t *testing.T, tenant uuid.UUID, q, model string) (hits []search.Hit, err error) {
	t.Helper()
	e, err := b.in.Embedder(model)
	if err != nil {
		t.Fatal(err)
	}
	v, err := e.Embed(t.Context(), []string{q})
	if err != nil {
		t.Fatal(err)
	}
	err = b.door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		hits, err = find(ctx, tx, tenant, search.Query{Mode: search.Semantic, Vector: v[0], Model: model, K: 3})
		return err
	})
	return hits, err
}

func newModels(t *testing.T) (*base, embed.Embedder) {
	b := newBase(t)
	w := wide{b.model}
	b.in.Embedder = func(model string) (embed.Embedder, error) {
		switch model {
		case "":
			return b.model, nil
		case "wide":
			return w, nil
		}
		return nil, errors.New("no such model")
	}
	return b, w
}

func TestAnotherModelServesAndCanGoBack(t *testing.T) {
	b, w := newModels(t)
	dir := t.TempDir()
	for n := range 300 {
		write(t, filepath.Join(dir, fmt.Sprintf("%03d.md", n)), fmt.Sprintf("# Note %d\n\nAbout valve %d.\n", n, n))
	}
	write(t, filepath.Join(dir, "pumps.md"), pumps)
	b.files(t, tenantA, dir)
	const question = "How do I send it back?"
	if err := b.serve(t, tenantA, "wide"); !errors.Is(err, kb.ErrNoModel) {
		t.Errorf("served before it is there: %v", err)
	}
	// Stopped in the middle, it goes on where it was.
	ctx, stop := context.WithCancel(t.Context())
	made := 0
	count := func(n int) { made += n; stop() }
	if err := kb.Reembed(ctx, b.door, tenantA, w, b.model.Tokenizer(), count); !errors.Is(err, context.Canceled) ||
		made == 0 || made > 300 {
		t.Fatalf("%d made, %v", made, err)
	}
	if err := b.serve(t, tenantA, "wide"); !errors.Is(err, kb.ErrIncomplete) {
		t.Errorf("served half: %v", err)
	}
	if err := kb.Reembed(t.Context(), b.door, tenantA, w, b.model.Tokenizer(), count); err != nil || made != 302 {
		t.Fatalf("%d made in all, %v", made, err)
	}
	before, err := b.ask(t, tenantA, question, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.serve(t, tenantA, "wide"); err != nil {
		t.Fatal(err)
	}
	var serving *search.ModelChangedError
	if _, err := b.ask(t, tenantA, question, ""); !errors.As(err, &serving) || serving.Model != "wide" {
		t.Errorf("by the first model: %v", err)
	}
	after, err := b.ask(t, tenantA, question, "wide")
	if err != nil || len(after) != 3 || after[0].ChunkID != before[0].ChunkID ||
		math.Abs(after[0].Score-before[0].Score) < 1e-9 {
		t.Errorf("%+v, %v", after, err)
	}
	// What is ingested now has vectors of both.
	write(t, filepath.Join(dir, "keys.md"), "# Keys\n\nThe keys hang behind the door.\n")
	write(t, filepath.Join(dir, "pumps.md"), strings.Replace(pumps, "thirty", "sixty", 1))
	b.files(t, tenantA, dir)
	for q, want := range map[string]string{"Where are the keys?": "behind the door", question: "sixty days"} {
		if hits, err := b.ask(t, tenantA, q, "wide"); err != nil || !strings.Contains(hits[0].Content, want) {
			t.Errorf("%s: %+v, %v", q, hits, err)
		}
	}
	if err := kb.DropModel(t.Context(), b.door, tenantA, "wide"); !errors.Is(err, kb.ErrNoModel) {
		t.Errorf("dropped while it serves: %v", err)
	}
	if models, err := kb.ListModels(t.Context(), b.door, tenantA); err != nil || len(models) != 1 ||
		!models[0].Serving || models[0].Vectors != 303 || models[0].Missing != 0 || models[0].Dimensions != 512 {
		t.Errorf("%+v, %v", models, err)
	}
	if err := b.serve(t, tenantA, ""); err != nil {
		t.Fatal(err)
	}
	if hits, err := b.ask(t, tenantA, "Where are the keys?", ""); err != nil ||
		!strings.Contains(hits[0].Content, "behind the door") {
		t.Errorf("after going back: %+v, %v", hits, err)
	}
	if err := kb.DropModel(t.Context(), b.door, tenantA, "wide"); err != nil {
		t.Error(err)
	}
}

// TestNoPassageIsLeftBehindWhenTheModelChanges switches while documents come in.
func TestNoPassageIsLeftBehindWhenTheModelChanges(t *testing.T) {
	b, w := newModels(t)
	ended, enough, taken := make(chan error, 1), make(chan struct{}), 0
	go func() { // until the model has changed meanwhile
		for round := 0; ; round++ {
			dir := t.TempDir()
			for n := range 20 {
				write(t, filepath.Join(dir, fmt.Sprintf("%03d.md", n)),
					fmt.Sprintf("# Note %d of %d\n\nAbout valve %d.\n", n, round, n))
			}
			if err := b.in.Files(context.Background(), tenantA, agent, []string{dir}, kb.DocumentOptions{},
				func(kb.IngestResult) {}); err != nil {
				ended <- err
				return
			}
			taken += 20
			select {
			case <-enough:
				ended <- nil
				return
			default:
			}
		}
	}()
	switched := 0
	for running := true; running; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		if err := kb.Reembed(t.Context(), b.door, tenantA, w, b.model.Tokenizer(), nil); err != nil {
			t.Fatal(err)
		}
		if err := b.serve(t, tenantA, "wide"); err == nil {
			if switched++; switched == 1 {
				close(enough)
			}
			if !running {
				break
			}
			if err := b.serve(t, tenantA, ""); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, kb.ErrIncomplete) || !running {
			t.Fatal(err)
		}
	}
	models, err := kb.ListModels(t.Context(), b.door, tenantA)
	if err != nil || len(models) != 1 || models[0].Missing != 0 || models[0].Vectors != taken || switched < 2 {
		t.Errorf("%+v after %d switches, %v", models, switched, err)
	}
}

func TestAnotherTenantsModelsAreNobodys(t *testing.T) {
	b, w := newModels(t)
	path := write(t, filepath.Join(t.TempDir(), "pumps.md"), pumps)
	b.files(t, tenantA, path)
	if err := kb.Reembed(t.Context(), b.door, tenantA, w, b.model.Tokenizer(), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.serve(t, tenantA, "wide"); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []uuid.UUID{tenantB, uuid.MustParse("99999999-9999-4999-8999-999999999999")} {
		if models, err := kb.ListModels(t.Context(), b.door, tenant); err != nil || len(models) != 0 {
			t.Errorf("%+v, %v", models, err)
		}
		if err := b.serve(t, tenant, "wide"); !errors.Is(err, kb.ErrNoModel) {
			t.Errorf("%v", err)
		}
		if err := kb.DropModel(t.Context(), b.door, tenant, "wide"); !errors.Is(err, kb.ErrNoModel) {
			t.Errorf("%v", err)
		}
		if err := kb.Reembed(t.Context(), b.door, tenant, w, b.model.Tokenizer(), func(n int) {
			t.Errorf("%d made", n)
		}); err != nil {
			t.Error(err)
		}
		if hits, err := b.ask(t, tenant, "pumps", ""); err != nil || len(hits) != 0 {
			t.Errorf("%+v, %v", hits, err)
		}
	}
	if name, err := kb.ServingModel(t.Context(), b.door, tenantA); err != nil || name != "wide" {
		t.Errorf("%q, %v", name, err)
	}
	if hits, err := b.ask(t, tenantA, "How do I send it back?", "wide"); err != nil || len(hits) != 2 {
		t.Errorf("%+v, %v", hits, err)
	}
}

// spoiled is a model that gives one vector that is none.
type spoiled struct {
	embed.Embedder
	spoil func([]float32) []float32
}

func (s spoiled) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	v, err := s.Embedder.Embed(ctx, texts)
	if err == nil && strings.Contains(texts[0], "valve") {
		v[0] = s.spoil(v[0])
	}
	return v, err
}

// TestVectorsThatAreNoneAreRefusedByName, in documents and in questions, and change nothing.
func TestVectorsThatAreNoneAreRefusedByName(t *testing.T) {
	b := newBase(t)
	dir := t.TempDir()
	bad, good := write(t, filepath.Join(dir, "bad.md"), "A valve.\n"), write(t, filepath.Join(dir, "good.md"), pumps)
	for want, spoil := range map[string]func([]float32) []float32{
		"vector 0: not a vector that can be searched: number 7 is NaN": func(v []float32) []float32 {
			v[7] = float32(math.NaN())
			return v
		},
		"vector 0: not a vector that can be searched: number 9 is +Inf": func(v []float32) []float32 {
			v[9] = float32(math.Inf(1))
			return v
		},
		"vector 0: not a vector that can be searched: its length is zero": func(v []float32) []float32 {
			clear(v)
			return v
		},
		"vector 0: not a vector that can be searched: it has 383 dimensions, not 384": func(v []float32) []float32 {
			return v[1:]
		},
		"vector 0: not a vector that can be searched: it has 0 dimensions, not 384": func([]float32) []float32 {
			return nil
		},
		"vector 0: not a vector that can be searched: it has 1000000 dimensions, not 384": func([]float32) []float32 {
			return make([]float32, 1_000_000)
		},
	} {
		b.in.Embedder = func(string) (embed.Embedder, error) { return spoiled{b.model, spoil}, nil }
		got := b.files(t, tenantA, bad, good)
		if err := got["bad.md"].Err; !errors.Is(err, kb.ErrVector) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if got["good.md"].Err != nil {
			t.Error(got["good.md"].Err)
		}
		if docs := b.list(t, tenantA); len(docs) != 1 {
			t.Errorf("%d documents", len(docs))
		}
		if _, err := b.ask(t, tenantA, "a valve", ""); !errors.Is(err, kb.ErrVector) {
			t.Errorf("a question: %v", err)
		}
	}
}

// meddling is a model at which something happens while it works; what it returns is one real vector for all texts.
type meddling struct {
	embed.Embedder
	vector []float32
	name   string
	meddle func()
}

func (m meddling) Name() string    { return m.name }
func (m meddling) Dimensions() int { return len(m.vector) }

func (m meddling) Embed(_ context.Context, texts []string) ([][]float32, error) {
	m.meddle()
	out := make([][]float32, len(texts))
	for i := range out {
		out[i] = m.vector
	}
	return out, nil
}

// TestAJobCancelledWhileItIsEmbeddedForAnotherModel ends, and nothing of it is stored: the model changes when it is
// embedded, and it is cancelled when it is embedded again.
func TestAJobCancelledWhileItIsEmbeddedForAnotherModel(t *testing.T) {
	b := newBase(t)
	v, err := b.model.Embed(t.Context(), []string{"a valve"})
	if err != nil {
		t.Fatal(err)
	}
	wide := meddling{vector: append(slices.Clone(v[0]), v[0][:16]...), name: "wide", meddle: func() {}}
	if err := kb.Reembed(t.Context(), b.door, tenantA, wide, b.model.Tokenizer(), nil); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	ids := b.enqueue(t, tenantA, text("long.md", strings.Repeat(pumps, 100))) // 200 chunks: four calls
	first := meddling{vector: v[0], name: b.model.Name(), meddle: func() {
		switch calls.Add(1) {
		case 1:
			if err := b.serve(t, tenantA, "wide"); err != nil {
				t.Error(err)
			}
		case 5:
			if n, err := kb.CancelJobs(t.Context(), b.door, tenantA, ids...); n != 1 || err != nil {
				t.Errorf("%d cancelled, %v", n, err)
			}
			time.Sleep(4 * time.Second) // in which the worker hears of it
		}
	}}
	b.in.Embedder = func(model string) (embed.Embedder, error) {
		if model == "" {
			return first, nil
		}
		return wide, nil
	}
	if _, err := b.in.Work(t.Context(), tenantA); err != nil || calls.Load() != 5 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
	b.enqueue(t, tenantA, text("after.md", pumps))
	if _, err := b.in.Work(t.Context(), tenantA); err != nil {
		t.Error(err)
	}
	if got := b.jobs(t, tenantA); got["long.md"] != "cancelled" || got["after.md"] != "done added" {
		t.Errorf("%v", got)
	}
	if docs := b.list(t, tenantA); len(docs) != 1 {
		t.Errorf("%+v", docs)
	}
}
