package embed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// tensor is a matrix or a vector of a network.
type tensor struct {
	dims []int
	data []float32
}

// readWeights reads the weights of a network from its ONNX file (onnx.proto: ModelProto.graph 7, GraphProto.node 1 and
// initializer 5), by name. Some exports give the matrix of a layer a meaningless name; it gets the name of the bias
// that is added to its product, with "weight" in place of "bias".
func readWeights(path string) (map[string]tensor, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// result of a product → bias; → matrix
	weights, added, multiplied := map[string]tensor{}, map[string]string{}, map[string]string{}
	err = fields(raw, func(number protowire.Number, graph []byte, _ uint64) error {
		if number != 7 {
			return nil
		}
		return fields(graph, func(number protowire.Number, part []byte, _ uint64) error {
			switch number {
			case 1:
				return node(part, added, multiplied)
			case 5:
				return initializer(part, weights)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the model %s: %w", path, err)
	}
	for result, bias := range added {
		if w, is := weights[multiplied[result]]; is {
			weights[strings.TrimSuffix(bias, "bias")+"weight"] = w
		}
	}
	for name, w := range weights { // some exports put the network's own name before each
		if _, short, is := strings.Cut(name, "bert."); is {
			weights[short] = w
		}
	}
	return weights, nil
}

// fields calls a function for each field of a protobuf message.
func fields(raw []byte, each func(number protowire.Number, bytes []byte, value uint64) error) error {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		var bytes []byte
		var value uint64
		switch kind {
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(raw)
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(raw)
		default:
			n = protowire.ConsumeFieldValue(number, kind, raw)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := each(number, bytes, value); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

// node records which matrix a product uses, and which bias is added to it (NodeProto: input 1, output 2, op_type 4).
func node(raw []byte, added, multiplied map[string]string) error {
	var in []string
	var out, op string
	err := fields(raw, func(number protowire.Number, bytes []byte, _ uint64) error {
		switch number {
		case 1:
			in = append(in, string(bytes))
		case 2:
			out = string(bytes)
		case 4:
			op = string(bytes)
		}
		return nil
	})
	if err != nil || len(in) != 2 {
		return err
	}
	switch {
	case op == "MatMul":
		multiplied[out] = in[1]
	case op == "Add" && strings.HasSuffix(in[0], ".bias"):
		added[in[1]] = in[0]
	case op == "Add" && strings.HasSuffix(in[1], ".bias"):
		added[in[0]] = in[1]
	}
	return nil
}

// initializer records a tensor of floats (TensorProto: dims 1, data_type 2 where 1 is float, name 8, raw_data 9).
func initializer(raw []byte, weights map[string]tensor) error {
	var t tensor
	var name string
	var kind uint64
	var data []byte
	err := fields(raw, func(number protowire.Number, bytes []byte, value uint64) error {
		switch number {
		case 1:
			if bytes == nil {
				t.dims = append(t.dims, int(value))
				return nil
			}
			for len(bytes) > 0 { // packed
				v, n := protowire.ConsumeVarint(bytes)
				if n < 0 {
					return protowire.ParseError(n)
				}
				t.dims, bytes = append(t.dims, int(v)), bytes[n:]
			}
		case 2:
			kind = value
		case 8:
			name = string(bytes)
		case 9:
			data = bytes
		}
		return nil
	})
	if err != nil || kind != 1 {
		return err
	}
	size := 1
	for _, d := range t.dims {
		if d < 0 || d > math.MaxInt32 || size > math.MaxInt32 {
			return errors.New("a tensor's dimensions are absurd")
		}
		size *= d
	}
	if len(data) != 4*size {
		return nil // of one number, written otherwise
	}
	t.data = make([]float32, size)
	for i := range t.data {
		t.data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	weights[name] = t
	return nil
}
