//go:build !cgo

package embed

import "errors"

func openRuntime(Model) (backend, error) {
	return nil, errors.New("this binary was built without cgo, which ONNX Runtime needs")
}
