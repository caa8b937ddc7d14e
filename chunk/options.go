package chunk

import (
	"fmt"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
)

// Options say how documents are split. The zero value splits at headings, into chunks that the model reads whole;
// with MaxTokens the chunks are windows of the document's text, whatever its structure (a static strategy).
//
// Tokens are those of the first model's tokenizer (WordPiece); other models count other numbers of the same text.
type Options struct {
	// MaxTokens is the largest size of a window's text, MinStatic to MaxStatic. A window larger than the model's input
	// is embedded in pieces.
	MaxTokens int `json:"max_tokens,omitempty"`
	// Overlap is how many tokens of a window's end the next window repeats at most, up to half of MaxTokens.
	Overlap int `json:"overlap_tokens,omitempty"`
}

// Limits on a window, in tokens.
const (
	MinStatic = 100
	MaxStatic = 4096
)

// Check reports options that can't be used; the error begins with the field's name in JSON.
func (o Options) Check() error {
	switch {
	case o.MaxTokens == 0 && o.Overlap != 0:
		return fmt.Errorf("overlap_tokens: %d without max_tokens: set both, or neither", o.Overlap)
	case o.MaxTokens != 0 && (o.MaxTokens < MinStatic || o.MaxTokens > MaxStatic):
		return fmt.Errorf("max_tokens: %d, it is %d to %d", o.MaxTokens, MinStatic, MaxStatic)
	case o.Overlap < 0 || o.Overlap > o.MaxTokens/2:
		return fmt.Errorf("overlap_tokens: %d, it is 0 to %d, half of max_tokens", o.Overlap, o.MaxTokens/2)
	}
	return nil
}

// SplitWith splits as the options say. It holds one chunk in memory at a time.
func SplitWith(d *extract.Document, t *embed.Tokenizer, o Options, yield func(Chunk) bool) {
	if o.MaxTokens == 0 {
		Split(d, t, yield)
		return
	}
	splitStatic(d, t, o, yield)
}

// Piece is a part of a chunk that the model reads at once.
type Piece struct {
	// Path is the heading path at its start, as the model reads it.
	Path string
	// Start and End are its bytes in the chunk's content.
	Start, End int
}

// Inputs are what the model reads of the chunk: its pieces in order, or the whole where it fits.
func (c *Chunk) Inputs() []string {
	inputs := []string{c.Embed}
	for _, p := range c.Pieces[min(1, len(c.Pieces)):] { // the first is Embed
		inputs = append(inputs, p.Path+c.Content[p.Start:p.End])
	}
	return inputs
}

// Whole is the heading path and the whole content: the input of a model that may read more than the first.
func (c *Chunk) Whole() string {
	if len(c.Pieces) == 0 {
		return c.Embed
	}
	return c.Pieces[0].Path + c.Content
}
