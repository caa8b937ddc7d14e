package embed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
)

// batchRows is how many texts the model processes at once; more were not faster on two cores.
const batchRows = 16

// backend runs the network: ONNX Runtime or pure Go.
type backend interface {
	// run returns the last hidden state, rows × width × Dimensions, for ids and mask of rows × width.
	run(ids, mask []int64, rows, width int) ([]float32, error)
	// shape rounds a batch up to a shape that suits the backend.
	shape(rows, width int) (int, int)
	name() string
	close() error
}

// Local is all-MiniLM-L6-v2 on this machine: mean pooling over the tokens, then L2 norm, as
// sentence-transformers does it.
type Local struct {
	tokens  *Tokenizer
	mu      sync.Mutex // the backends use all cores for one batch
	backend backend
}

// OpenLocal loads the model from m's folder. It runs the model with ONNX Runtime, or in pure Go if the library can't be
// loaded; why is the reason, or nil.
func OpenLocal(m Model) (local *Local, why error, err error) {
	t, err := LoadTokenizer(m.Tokenizer())
	if err != nil {
		return nil, nil, err
	}
	net, why := openRuntime(m)
	if why != nil {
		if net, err = openPure(m); err != nil {
			return nil, why, err
		}
	}
	return &Local{tokens: t, backend: net}, why, nil
}

// OpenPure is OpenLocal without ONNX Runtime.
func OpenPure(m Model) (*Local, error) {
	t, err := LoadTokenizer(m.Tokenizer())
	if err != nil {
		return nil, err
	}
	net, err := openPure(m)
	if err != nil {
		return nil, err
	}
	return &Local{tokens: t, backend: net}, nil
}

// Name implements Embedder.
func (l *Local) Name() string { return ModelName }

// Dimensions implements Embedder.
func (l *Local) Dimensions() int { return Dimensions }

// Runtime returns the name of the backend.
func (l *Local) Runtime() string { return l.backend.name() }

// Tokenizer returns the model's tokenizer.
func (l *Local) Tokenizer() *Tokenizer { return l.tokens }

// Close implements Embedder.
func (l *Local) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.backend == nil {
		return nil
	}
	err := l.backend.close()
	l.backend = nil
	return err
}

// Embed implements Embedder. Texts of similar length are processed together, to keep the padding small.
func (l *Local) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	inputs := make([][]int64, len(texts))
	order := make([]int, len(texts))
	for i, s := range texts {
		inputs[i], order[i] = l.tokens.input(s), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(inputs[a]) - len(inputs[b]) })
	out := make([][]float32, len(texts))
	for batch := range slices.Chunk(order, batchRows) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("embed %d texts: %w", len(texts), err)
		}
		if err := l.batch(batch, inputs, out); err != nil {
			return nil, fmt.Errorf("embed %d texts: %w", len(texts), err)
		}
	}
	return out, nil
}

func (l *Local) batch(batch []int, inputs [][]int64, out [][]float32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.backend == nil {
		return errors.New("the model is closed")
	}
	rows, width := l.backend.shape(len(batch), len(inputs[batch[len(batch)-1]]))
	ids, mask := make([]int64, rows*width), make([]int64, rows*width)
	for r := range rows {
		// Rows that only fill the shape repeat the last one: in a row that is fully masked, softmax would divide by
		// zero.
		in := inputs[batch[min(r, len(batch)-1)]]
		copy(ids[r*width:], in)
		for i := range in {
			mask[r*width+i] = 1
		}
	}
	hidden, err := l.backend.run(ids, mask, rows, width)
	if err != nil {
		return err
	}
	if len(hidden) != rows*width*Dimensions {
		return fmt.Errorf("the model gave %d numbers, not %d×%d×%d", len(hidden), rows, width, Dimensions)
	}
	for r, i := range batch {
		out[i] = pool(hidden[r*width*Dimensions:], len(inputs[i]))
	}
	return nil
}

// pool returns the mean of the first n hidden vectors, normalized to unit length.
func pool(hidden []float32, n int) []float32 {
	v := make([]float32, Dimensions)
	for t := range n {
		for d, x := range hidden[t*Dimensions : (t+1)*Dimensions] {
			v[d] += x
		}
	}
	return normalize(v)
}

func normalize(v []float32) []float32 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return v
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
	return v
}

// input returns the model's input for a text: its first tokens between [CLS] and [SEP].
func (t *Tokenizer) input(text string) []int64 {
	tokens := t.Encode(text)
	tokens = tokens[:min(len(tokens), MaxTokens-2)]
	ids := make([]int64, 0, len(tokens)+2)
	ids = append(ids, int64(t.classify))
	for _, k := range tokens {
		ids = append(ids, int64(k.ID))
	}
	return append(ids, int64(t.endSeq))
}
