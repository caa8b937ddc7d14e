package embed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
)

// ModelName is the local model's published name.
const ModelName = "sentence-transformers/all-MiniLM-L6-v2"

// ErrNoModel means that the local model is not on this machine.
var ErrNoModel = errors.New(
	"the embedding model is not here: run `make setup`, `konstruct model fetch` or `konstruct model import`")

// Model holds the paths of the local model's files: models/all-MiniLM-L6-v2, and the library of ONNX Runtime in
// onnxruntime, below the folder of assets.
type Model struct{ Parts string }

// FindTokenizer loads the tokenizer of the model below the folder of assets.
func FindTokenizer(parts string) (*Tokenizer, error) {
	m, err := FindModel(parts)
	if err != nil {
		return nil, err
	}
	return LoadTokenizer(m.Tokenizer())
}

// FindModel returns the model below the folder of assets, or ErrNoModel.
func FindModel(parts string) (Model, error) {
	m := Model{parts}
	for _, f := range []string{m.Network(), m.Tokenizer()} {
		if _, err := os.Stat(f); err != nil {
			return m, fmt.Errorf("%w (looked for %s)", ErrNoModel, f)
		}
	}
	return m, nil
}

// Dir returns the folder of the model.
func (m Model) Dir() string { return filepath.Join(m.Parts, "models", "all-MiniLM-L6-v2") }

// Network returns the path of the network in ONNX format.
func (m Model) Network() string { return filepath.Join(m.Dir(), "model.onnx") }

// Tokenizer returns the path of tokenizer.json, the vocabulary.
func (m Model) Tokenizer() string { return filepath.Join(m.Dir(), "tokenizer.json") }

// runtimeLibrary finds the shared library of ONNX Runtime: KONSTRUCT_ONNXRUNTIME, then the folder of assets, then the
// standard locations.
func (m Model) runtimeLibrary() (string, error) {
	if p := os.Getenv("KONSTRUCT_ONNXRUNTIME"); p != "" {
		return p, nil
	}
	for _, pattern := range []string{
		filepath.Join(m.Parts, "onnxruntime", "libonnxruntime.*"),
		"/usr/lib/x86_64-linux-gnu/libonnxruntime.so*", "/usr/lib/aarch64-linux-gnu/libonnxruntime.so*",
		"/usr/local/lib/libonnxruntime.*", "/opt/homebrew/lib/libonnxruntime.dylib",
	} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			sort.Strings(found)
			return found[len(found)-1], nil
		}
	}
	return "",
		errors.New(
			"ONNX Runtime's library is not here: `make setup` brings it, or set KONSTRUCT_ONNXRUNTIME to its path")
}
