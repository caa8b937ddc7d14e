package embed

import (
	"fmt"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/tensors"
	"github.com/gomlx/gomlx/pkg/ml/context"
	"github.com/gomlx/onnx-gomlx/onnx"
)

// pure runs the network in Go alone. It is what a machine without ONNX Runtime gets: slower, the same
// vectors.
type pure struct {
	engine backends.Backend
	exec   *context.Exec
}

func openPure(m Model) (backend, error) {
	model, err := onnx.ReadFile(m.Network())
	if err != nil {
		return nil, fmt.Errorf("read the model %s: %w", m.Network(), err)
	}
	hidden := ""
	names, shapes := model.Outputs()
	for i, s := range shapes {
		if s.Rank() == 3 {
			hidden = names[i]
		}
	}
	if hidden == "" {
		return nil, fmt.Errorf("the model %s has no hidden state among its outputs", m.Network())
	}
	for _, s := range model.InputsShapes { // one published export calls both axes "batch", and would be held to it
		copy(s.Names, []string{"batch", "sequence"})
	}
	engine, err := simplego.New("")
	if err != nil {
		return nil, fmt.Errorf("start the pure Go engine: %w", err)
	}
	weights := context.New()
	if err := model.VariablesToContext(weights); err != nil {
		return nil, fmt.Errorf("load the model %s: %w", m.Network(), err)
	}
	weights = weights.Reuse()
	exec, err := context.NewExec(engine, weights, func(c *context.Context, ids, mask, types *graph.Node) *graph.Node {
		return model.CallGraph(c, ids.Graph(), map[string]*graph.Node{"input_ids": ids, "attention_mask": mask, "token_type_ids": types}, hidden)[0]
	})
	if err != nil {
		return nil, fmt.Errorf("load the model %s: %w", m.Network(), err)
	}
	return &pure{engine: engine, exec: exec.SetMaxCache(-1)}, nil
}

func (p *pure) name() string { return "pure Go" }

func (p *pure) close() error {
	p.exec.Finalize()
	p.engine.Finalize()
	return nil
}

// shape holds the number of different shapes to 2 × 8, because a graph is compiled for each.
func (p *pure) shape(rows, width int) (int, int) {
	if rows > 1 {
		rows = batchRows
	}
	return rows, (width + 31) / 32 * 32
}

func (p *pure) run(ids, mask []int64, rows, width int) ([]float32, error) {
	in := func(data []int64) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(data, rows, width) }
	hidden, err := p.exec.Exec1(in(ids), in(mask), in(make([]int64, len(ids))))
	if err != nil {
		return nil, fmt.Errorf("run the model: %w", err)
	}
	defer hidden.FinalizeAll()
	return tensors.CopyFlatData[float32](hidden)
}
