package embed_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/internal/devpg"
)

// golden is made by the reference: testdata/golden.py, sentence-transformers 5.x on the same weights.
type golden struct {
	Text    string   `json:"text"`
	IDs     []int    `json:"ids"`
	Offsets [][2]int `json:"offsets"`
	Vector  string   `json:"vector"` // 384 little-endian float32 in base64
}

func goldens(t testing.TB) (g []golden) {
	t.Helper()
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if len(g) < 50 {
		t.Fatalf("only %d golden sentences", len(g))
	}
	return g
}

func model(t testing.TB) embed.Model {
	t.Helper()
	m, err := embed.FindModel(devpg.AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTokensAreTheReferencesOwn(t *testing.T) {
	tk, err := embed.LoadTokenizer(model(t).Tokenizer())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range goldens(t) {
		ids, offsets := []int{101}, [][2]int{{0, 0}}
		for _, k := range tk.Encode(g.Text) {
			ids, offsets = append(ids, int(k.ID)), append(offsets, [2]int{k.Start, k.End})
		}
		ids, offsets = append(ids, 102), append(offsets, [2]int{0, 0})
		if d := cmp.Diff(g.IDs, ids); d != "" {
			t.Errorf("ids of %.40q (-reference +ours):\n%s", g.Text, d)
		}
		if d := cmp.Diff(g.Offsets, offsets); d != "" {
			t.Errorf("offsets of %.40q (-reference +ours):\n%s", g.Text, d)
		}
	}
}

func TestVectorsAreTheReferencesOwn(t *testing.T) {
	runtime, why, err := embed.OpenLocal(model(t))
	if err != nil {
		t.Fatal(err)
	}
	if why != nil {
		t.Fatalf("ONNX Runtime was not used: %v", why)
	}
	t.Cleanup(func() { runtime.Close() })
	pure, err := embed.OpenPure(model(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pure.Close() })
	gs := goldens(t)
	texts := make([]string, len(gs))
	for i, g := range gs {
		texts[i] = g.Text
	}
	for _, e := range []*embed.Local{runtime, pure} {
		t.Run(e.Runtime(), func(t *testing.T) {
			got, err := e.Embed(t.Context(), texts)
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range gs {
				if c := cosine(got[i], vector(t, g.Vector)); c < 0.9999 {
					t.Errorf("%.40q: cosine %.6f with the reference", g.Text, c)
				}
				if c := cosine(got[i], got[i]); math.Abs(c-1) > 1e-5 {
					t.Errorf("%.40q: squared length %.6f, not 1", g.Text, c)
				}
			}
		})
	}
}

func TestEmbedStopsWhenItsContextEnds(t *testing.T) {
	e, _, err := embed.OpenLocal(model(t))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Embed(ctx, []string{"x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestAClosedModelSaysSo(t *testing.T) {
	e, err := embed.OpenPure(model(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Embed(t.Context(), []string{"x"}); err == nil {
		t.Error("a closed model embedded")
	}
}

func TestAMissingModelNamesWhatToRun(t *testing.T) {
	_, err := embed.FindModel(t.TempDir())
	if !errors.Is(err, embed.ErrNoModel) || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("error %v", err)
	}
}

func BenchmarkEmbed(b *testing.B) {
	text := strings.Repeat("The light of the sun consists of rays differently refrangible. ", 18)
	e, why, err := embed.OpenLocal(model(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Log(why)
	pure, err := embed.OpenPure(model(b))
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range []*embed.Local{e, pure} {
		b.Run(e.Runtime(), func(b *testing.B) {
			texts := make([]string, 64)
			for i := range texts {
				texts[i] = fmt.Sprintf("%d %s", i, text)
			}
			for b.Loop() {
				if _, err := e.Embed(b.Context(), texts); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(texts))/b.Elapsed().Seconds(), "texts/s")
		})
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenize(b *testing.B) {
	tk, err := embed.LoadTokenizer(model(b).Tokenizer())
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("The light of the sun consists of rays differently refrangible. ", 18)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tk.Encode(text)
	}
}

func vector(t testing.TB, s string) []float32 {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) != 4*embed.Dimensions {
		t.Fatalf("golden vector of %d bytes: %v", len(raw), err)
	}
	v := make([]float32, embed.Dimensions)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

func cosine(a, b []float32) (c float64) {
	for i := range a {
		c += float64(a[i]) * float64(b[i])
	}
	return c
}
