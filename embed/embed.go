// Package embed converts text to vectors: with all-MiniLM-L6-v2 on this machine, or through an OpenAI-compatible
// endpoint. It knows nothing of databases or documents.
package embed

import "context"

// Dimensions is the length of the first model's vectors: the schema's embedding column holds vector(384).
const Dimensions = 384

// MaxTokens is the input size of all-MiniLM-L6-v2 in tokens, including the two special ones; the rest of a text is
// ignored.
const MaxTokens = 256

// Embedder converts texts to vectors of unit length, in order. It is safe for concurrent use.
type Embedder interface {
	// Embed returns one vector for each text. It stops between batches when ctx ends.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	// Dimensions returns the length of its vectors.
	Dimensions() int
	// Name returns the model's name. Only vectors of the same model can be compared.
	Name() string
	// Close releases the model's resources.
	Close() error
}
