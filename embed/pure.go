package embed

import (
	"fmt"
	"math"
	"runtime"
	"sync"
)

// The dimensions of all-MiniLM-L6-v2, a BERT (Devlin et al. 2018).
const (
	layers  = 6
	heads   = 12
	perHead = Dimensions / heads
	inner   = 4 * Dimensions
	epsilon = 1e-12
)

// pure runs the network in pure Go, for machines without ONNX Runtime. It is slower and gives the same vectors.
type pure struct {
	multiply               func(int, *float32, int, *float32, *float32, *float32, int)
	words, positions, kind []float32 // kind: of the only kind of text there is
	first                  normal
	layers                 [layers]layer
}

type layer struct {
	query, key, value, attended dense
	afterAttention              normal
	wide, narrow                dense
	afterAll                    normal
}

// dense is a weight matrix and its bias.
type dense struct {
	weight packed
	bias   []float32
}

// normal is layer normalization: it scales a token's values to mean 0 and variance 1, then applies weight and bias.
type normal struct{ weight, bias []float32 }

func openPure(m Model) (backend, error) {
	weights, err := readWeights(m.Network())
	if err != nil {
		return nil, err
	}
	get := func(name string, dims ...int) []float32 {
		t := weights[name]
		if fmt.Sprint(t.dims) != fmt.Sprint(dims) {
			err = fmt.Errorf("the model %s has no %s of %v numbers, but of %v", m.Network(), name, dims, t.dims)
			return make([]float32, 1)
		}
		return t.data
	}
	dense := func(name string, in, out int) dense {
		w := get(name+".weight", in, out)
		if err != nil {
			return dense{}
		}
		return dense{pack(nil, in, out, func(r, c int) float32 { return w[r*out+c] }), get(name+".bias", out)}
	}
	normal := func(name string) normal {
		return normal{get(name+".weight", Dimensions), get(name+".bias", Dimensions)}
	}
	p := &pure{multiply: kernel(), words: weights["embeddings.word_embeddings.weight"].data,
		positions: get("embeddings.position_embeddings.weight", 512, Dimensions),
		kind:      get("embeddings.token_type_embeddings.weight", 2, Dimensions), first: normal("embeddings.LayerNorm")}
	for i := range p.layers {
		at := fmt.Sprintf("encoder.layer.%d.", i)
		p.layers[i] = layer{query: dense(at+"attention.self.query", Dimensions, Dimensions),
			key: dense(at+"attention.self.key", Dimensions, Dimensions), value: dense(at+"attention.self.value",
				Dimensions, Dimensions),
			attended:       dense(at+"attention.output.dense", Dimensions, Dimensions),
			afterAttention: normal(at + "attention.output.LayerNorm"),
			wide:           dense(at+"intermediate.dense", Dimensions, inner),
			narrow:         dense(at+"output.dense", inner, Dimensions), afterAll: normal(at + "output.LayerNorm")}
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pure) name() string                     { return "pure Go" }
func (p *pure) close() error                     { return nil }
func (p *pure) shape(rows, width int) (int, int) { return rows, width }

// run processes each text separately, without padding, on all cores.
func (p *pure) run(ids, mask []int64, rows, width int) ([]float32, error) {
	out := make([]float32, rows*width*Dimensions)
	next := make(chan int, rows)
	for r := range rows {
		next <- r
	}
	close(next)
	var err error
	var once sync.Once
	var all sync.WaitGroup
	for range min(rows, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			s := newScratch(width)
			for r := range next {
				n := 0
				for n < width && mask[r*width+n] != 0 {
					n++
				}
				if e := p.text(ids[r*width:r*width+n], s); e != nil {
					once.Do(func() { err = e })
					return
				}
				copy(out[r*width*Dimensions:], s.x[:n*Dimensions])
			}
		})
	}
	all.Wait()
	return out, err
}

// scratch holds the intermediate values of one text; rows are padded to a multiple of tileRows.
type scratch struct {
	x, query, key, value, seen, wide []float32
	scores                           []float32
	keys, values                     []float32 // packed
	none                             []float32 // no bias
}

func newScratch(width int) *scratch {
	rows, cols := upTo(width, tileRows), upTo(width, tileCols)
	numbers := func(n int) []float32 { return make([]float32, rows*n) }
	return &scratch{x: numbers(Dimensions), query: numbers(Dimensions), key: numbers(Dimensions),
		value: numbers(Dimensions), seen: numbers(Dimensions), wide: numbers(inner),
		scores: numbers(cols), keys: make([]float32, perHead*cols), values: make([]float32, width*perHead),
		none: make([]float32, max(cols, perHead))}
}

// text computes the last hidden state of one text into s.x.
func (p *pure) text(ids []int64, s *scratch) error {
	n := len(ids)
	if n == 0 || n > len(p.positions)/Dimensions {
		return fmt.Errorf("a text of %d tokens", n)
	}
	for t, id := range ids {
		if id < 0 || int(id) >= len(p.words)/Dimensions {
			return fmt.Errorf("token %d is none of the model's", id)
		}
		x, word, place := s.x[t*Dimensions:(t+1)*Dimensions], p.words[id*Dimensions:], p.positions[t*Dimensions:]
		for i := range x {
			x[i] = word[i] + place[i] + p.kind[i]
		}
	}
	rows := upTo(n, tileRows)
	clear(s.x[n*Dimensions : rows*Dimensions])
	p.first.apply(s.x, nil, n)
	for i := range p.layers {
		p.layer(&p.layers[i], s, n, rows)
	}
	return nil
}

func (p *pure) layer(l *layer, s *scratch, n, rows int) {
	times := func(d dense, in, out []float32) {
		product(p.multiply, rows, in, d.weight.k, d.weight, d.bias, out, d.weight.cols)
	}
	times(l.query, s.x, s.query)
	times(l.key, s.x, s.key)
	times(l.value, s.x, s.value)
	cols := upTo(n, tileCols)
	scale := float32(1 / math.Sqrt(perHead))
	for h := range heads {
		at := h * perHead
		keys := pack(s.keys, perHead, n, func(r, c int) float32 { return s.key[c*Dimensions+at+r] })
		product(p.multiply, rows, s.query[at:], Dimensions, keys, s.none, s.scores, cols)
		for t := range n {
			softmax(s.scores[t*cols:t*cols+n], scale)
		}
		values := pack(s.values, n, perHead, func(r, c int) float32 { return s.value[r*Dimensions+at+c] })
		product(p.multiply, rows, s.scores, cols, values, s.none, s.seen[at:], Dimensions)
	}
	times(l.attended, s.seen, s.query)
	l.afterAttention.apply(s.x, s.query, n)
	times(l.wide, s.x, s.wide)
	for i, x := range s.wide[:n*inner] {
		s.wide[i] = gelu(x)
	}
	times(l.narrow, s.wide, s.query)
	l.afterAll.apply(s.x, s.query, n)
}

// softmax converts scores to weights whose sum is 1.
func softmax(scores []float32, scale float32) {
	most := scores[0]
	for _, x := range scores {
		most = max(most, x)
	}
	var sum float32
	for i, x := range scores {
		scores[i] = exp32((x - most) * scale)
		sum += scores[i]
	}
	for i := range scores {
		scores[i] /= sum
	}
}

// apply adds a layer's output to its n tokens, and normalizes them.
func (l normal) apply(x, added []float32, n int) {
	for t := range n {
		row := x[t*Dimensions : (t+1)*Dimensions]
		if added != nil {
			for i, a := range added[t*Dimensions : (t+1)*Dimensions] {
				row[i] += a
			}
		}
		var sum, squares float32
		for _, v := range row {
			sum += v
		}
		mean := sum / Dimensions
		for _, v := range row {
			squares += (v - mean) * (v - mean)
		}
		scale := float32(1 / math.Sqrt(float64(squares/Dimensions)+epsilon))
		for i, v := range row {
			row[i] = (v-mean)*scale*l.weight[i] + l.bias[i]
		}
	}
}
