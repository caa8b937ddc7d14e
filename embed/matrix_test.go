package embed

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestProductsAreThoseOfArithmetic holds this processor's kernel, and the one of every other, against the definition.
func TestProductsAreThoseOfArithmetic(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	numbers := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(draw.NormFloat64())
		}
		return v
	}
	for _, c := range []struct{ rows, k, cols int }{{6, 1, 1}, {6, 32, 16}, {12, 33, 17}, {18, 384, 48}, {6, 7, 100},
		{252, 32, 250}} {
		a, b, bias := numbers(c.rows*c.k), numbers(c.k*c.cols), numbers(upTo(c.cols, tileCols))
		p := pack(numbers(3), c.k, c.cols, func(r, col int) float32 { return b[r*c.cols+col] })
		for name, multiply := range map[string]func(int, *float32, int, *float32, *float32, *float32,
			int){"this processor's": kernel(), "every processor's": multiply6x16} {
			got := make([]float32, c.rows*p.cols)
			product(multiply, c.rows, a, c.k, p, bias, got, p.cols)
			for r := range c.rows {
				for col := range c.cols {
					want, size := float64(bias[col]), math.Abs(float64(bias[col]))
					for i := range c.k {
						x := float64(a[r*c.k+i]) * float64(b[i*c.cols+col])
						want, size = want+x, size+math.Abs(x)
					}
					if off := math.Abs(float64(got[r*p.cols+col]) - want); off > 1e-6*size {
						t.Fatalf("%s, %v: row %d column %d is %v, want %v", name, c, r, col, got[r*p.cols+col], want)
					}
				}
			}
		}
	}
}

func TestFunctionsOfFloats(t *testing.T) {
	for x := -100.0; x <= 0; x += 0.00137 {
		if got, want := float64(exp32(float32(x))), math.Exp(float64(float32(x))); math.Abs(got-want) > 3e-7*want+
			1e-37 {
			t.Fatalf("exp(%v) is %v, want %v", x, got, want)
		}
	}
	for x := -12.0; x <= 12; x += 0.00137 {
		want := 0.5 * x * (1 + math.Erf(x/math.Sqrt2))
		if got := float64(gelu(float32(x))); math.Abs(got-want) > 1e-6*(1+math.Abs(x)) {
			t.Fatalf("gelu(%v) is %v, want %v", x, got, want)
		}
	}
}

// TestAModelsFileThatIsNone is refused, cut anywhere, and says what it lacks.
func TestAModelsFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.onnx")
	// a graph with a tensor "w" that ends in the middle of a field
	graph := []byte{0x3a, 8, 0x2a, 6, 0x42, 1, 'w', 8, 2, 16}
	for n := range graph {
		if err := os.WriteFile(path, graph[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if w, err := readWeights(path); err == nil && len(w) > 0 {
			t.Errorf("%d bytes: %v", n, w)
		}
	}
	if err := os.WriteFile(path, graph, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readWeights(path); err == nil {
		t.Error("a file that is cut off is taken for whole")
	}
	m := Model{dir}
	if err := os.MkdirAll(filepath.Dir(m.Network()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Network(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openPure(m); err == nil {
		t.Error("an empty network is opened")
	}
}
