// Package embed turns text into vectors: with all-MiniLM-L6-v2 on this machine, or through an
// OpenAI-compatible endpoint. It knows nothing of databases or documents.
package embed

import "context"

// Dimensions is the length of the first model's vectors: the schema's embedding column holds vector(384).
const Dimensions = 384

// MaxTokens is how many tokens all-MiniLM-L6-v2 reads of a text, the two that stand around it
// counted; what comes after has no say in the vector.
const MaxTokens = 256

// Embedder turns texts into vectors of unit length, in order. It is safe for concurrent use.
type Embedder interface {
	// Embed returns one vector a text. It stops between batches when ctx ends.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	// Dimensions is the length of its vectors.
	Dimensions() int
	// Name is the model's name: vectors of one name can be compared, of two names not.
	Name() string
	// Close frees what the model holds.
	Close() error
}
