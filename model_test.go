package konstruct_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

// wide is the real model with more dimensions: it repeats the first numbers of each vector.
type wide struct{ embed.Embedder }

func (wide) Name() string    { return "wide" }
func (wide) Dimensions() int { return 400 }
func (wide) Close() error    { return nil }

func (w wide) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vectors, err := w.Embedder.Embed(ctx, texts)
	for i := range vectors {
		vectors[i] = append(vectors[i], vectors[i][:16]...)
	}
	return vectors, err
}

// TestSearchesFollowTheModelThatServes, also those of a process that has not heard of the change, and the record says
// which.
func TestSearchesFollowTheModelThatServes(t *testing.T) {
	d := testkit.Database(t)
	open := func(models ...embed.Embedder) *konstruct.Konstruct {
		k, err := konstruct.Open(t.Context(),
			konstruct.Config{DatabaseURL: d.URL("konstruct_app"), AssetsDir: devpg.AssetsDir(),
				Embedder: testkit.Model(t), Embedders: models})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Close() })
		return k
	}
	m := testkit.Model(t)
	one, two, without := open(wide{m}), open(wide{m}), open()
	agent := one.Tenant(acmeID).Agent(supportID)
	path := filepath.Join(t.TempDir(), "a.md")
	if err := os.WriteFile(path, []byte("# Pumps\n\nA pump may be returned within thirty days."), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := agent.Ingest(t.Context(), []string{path}, konstruct.DocumentOptions{}, func(konstruct.IngestResult) {},
		nil); err != nil {
		t.Fatal(err)
	}
	searched := func(k *konstruct.Konstruct) string {
		t.Helper()
		r, err := k.Tenant(acmeID).Agent(supportID).Search(t.Context(), "How do I send it back?", 1)
		if err != nil || len(r.Hits) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		e, err := k.Tenant(acmeID).Events().Get(t.Context(), r.EventID)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(e.Metadata), `"gen_ai.request.model": "wide"`) {
			return "wide"
		}
		return "first"
	}
	if got := searched(one) + searched(two) + searched(without); got != "firstfirstfirst" {
		t.Fatal(got)
	}
	if err := agent.Reembed(t.Context(), "wide", nil); err != nil {
		t.Fatal(err)
	}
	event, err := agent.ServeModel(t.Context(), "wide")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := one.Tenant(acmeID).Events().Get(t.Context(), event); err != nil || e.Action != audit.ActionModel ||
		!strings.Contains(string(e.Metadata), `"konstruct.model": "wide"`) {
		t.Errorf("%+v, %v", e, err)
	}
	if got := searched(one) + searched(two); got != "widewide" {
		t.Error(got)
	}
	if _, err := without.Tenant(acmeID).Agent(supportID).Search(t.Context(), "x", 1); err == nil ||
		!strings.Contains(err.Error(), "KONSTRUCT_EMBED_ALSO") {
		t.Errorf("a process without the model: %v", err)
	}
	if _, err := agent.ServeModel(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if got := searched(one) + searched(two) + searched(without); got != "firstfirstfirst" {
		t.Error(got)
	}
	if _, err := agent.ServeModel(t.Context(), "other"); err == nil || errors.Is(err, kb.ErrNoModel) {
		t.Errorf("a model that is not configured: %v", err)
	}
}
