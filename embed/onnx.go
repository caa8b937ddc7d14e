//go:build cgo

package embed

import (
	"fmt"

	ort "github.com/yalue/onnxruntime_go"
)

// onnxRuntime runs the network in ONNX Runtime's shared library, on all cores.
type onnxRuntime struct {
	session *ort.DynamicAdvancedSession
	version string
}

func openRuntime(m Model) (backend, error) {
	lib, err := m.runtimeLibrary()
	if err != nil {
		return nil, err
	}
	// ONNX Runtime has one environment for each process; it is created once and kept.
	if !ort.IsInitialized() {
		ort.SetSharedLibraryPath(lib)
		if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
			return nil, fmt.Errorf("load %s: %w", lib, err)
		}
	}
	_, outputs, err := ort.GetInputOutputInfo(m.Network())
	if err != nil {
		return nil, fmt.Errorf("read the model %s: %w", m.Network(), err)
	}
	hidden := ""
	for _, o := range outputs {
		if len(o.Dimensions) == 3 {
			hidden = o.Name
		}
	}
	if hidden == "" {
		return nil, fmt.Errorf("the model %s has no hidden state among its outputs", m.Network())
	}
	s, err := ort.NewDynamicAdvancedSession(m.Network(), []string{"input_ids", "attention_mask", "token_type_ids"},
		[]string{hidden}, nil)
	if err != nil {
		return nil, fmt.Errorf("load the model %s: %w", m.Network(), err)
	}
	return &onnxRuntime{session: s, version: ort.GetVersion()}, nil
}

func (o *onnxRuntime) name() string                     { return "ONNX Runtime " + o.version }
func (o *onnxRuntime) close() error                     { return o.session.Destroy() }
func (o *onnxRuntime) shape(rows, width int) (int, int) { return rows, width }

func (o *onnxRuntime) run(ids, mask []int64, rows, width int) ([]float32, error) {
	inputs := make([]ort.Value, 0, 3)
	defer func() {
		for _, v := range inputs {
			_ = v.Destroy()
		}
	}()
	for _, data := range [][]int64{ids, mask, make([]int64, len(ids))} {
		t, err := ort.NewTensor(ort.NewShape(int64(rows), int64(width)), data)
		if err != nil {
			return nil, fmt.Errorf("make the model's input: %w", err)
		}
		inputs = append(inputs, t)
	}
	hidden, err := ort.NewEmptyTensor[float32](ort.NewShape(int64(rows), int64(width), Dimensions))
	if err != nil {
		return nil, fmt.Errorf("make the model's output: %w", err)
	}
	defer hidden.Destroy()
	if err := o.session.Run(inputs, []ort.Value{hidden}); err != nil {
		return nil, fmt.Errorf("run the model: %w", err)
	}
	return append([]float32(nil), hidden.GetData()...), nil
}
