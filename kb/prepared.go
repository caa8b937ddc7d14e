package kb

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/parse"
	"github.com/konstruct/konstruct/tenantdb"
)

// PreparedDocument is a document whose passages and vectors the caller has made.
type PreparedDocument struct {
	Source, Filename, ContentType, Title string
	// Text is what the chunks' Start and End point into; it may be empty.
	Text   string
	Chunks []chunk.Chunk
	// Vectors are the first model's, whose name is Model, one a chunk.
	Vectors [][]float32
	// PieceVectors are those of each chunk's pieces after the first; nil where the model read all chunks whole.
	PieceVectors [][][]float32
	Model        string
	DocumentOptions
}

// StorePrepared stores a document that is made already, as Ingester.Files stores one: it replaces what has the same
// source, and is unchanged where chunks and model are what they were.
func StorePrepared(ctx context.Context, door *tenantdb.Door, tenant, agent uuid.UUID,
	m PreparedDocument) (id uuid.UUID, done Outcome, err error) {
	u := Upload{Source: m.Source, Filename: m.Filename, Content: []byte{1}, DocumentOptions: m.DocumentOptions}
	switch err = errors.Join(u.Check(), m.DocumentOptions.grantedLabels(door.CanSee(ctx))); {
	case err != nil:
	case m.Model == "":
		err = errors.New("model: it is empty: say which made the vectors")
	case len(m.Chunks) == 0 || len(m.Chunks) != len(m.Vectors):
		err = fmt.Errorf("vectors: %d for %d chunks", len(m.Vectors), len(m.Chunks))
	case m.PieceVectors != nil && len(m.PieceVectors) != len(m.Chunks):
		err = fmt.Errorf("piece vectors: of %d chunks, there are %d", len(m.PieceVectors), len(m.Chunks))
	}
	if err != nil {
		return id, "", fmt.Errorf("kb: put: %w", err)
	}
	if err := m.DocumentOptions.checkCollections(ctx, door, tenant); err != nil {
		return id, "", fmt.Errorf("kb: put: %w", err)
	}
	sum, size := sha256.New(), 0
	var length [8]byte
	for i := range m.Chunks { // each with its length, so that no two lists of chunks are one
		binary.BigEndian.PutUint64(length[:], uint64(len(m.Chunks[i].Content)))
		sum.Write(length[:])
		sum.Write([]byte(m.Chunks[i].Content))
		size += len(m.Chunks[i].Content)
	}
	j := &ingestJob{options: m.DocumentOptions,
		documentContent: documentContent{ParsedFile: parse.ParsedFile{Title: m.Title, Text: m.Text, Chunks: m.Chunks},
			agent: agent, filename: m.Filename, source: m.Source, kind: m.ContentType,
			bytes: int64(size), recipe: "given " + m.Model, chunking: m.Chunking, vectors: m.Vectors,
			pieceVectors: m.PieceVectors}}
	sum.Sum(j.sha[:0])
	if j.seq, err = NextSeq(ctx, door, tenant); err != nil {
		return id, "", err
	}
	if id, done, err = storeDocument(ctx, door, tenant, j); errors.Is(err, errSwitched) {
		err = fmt.Errorf("%w: its vectors can't be given, the passages' text is needed: take the document in", err)
	}
	if err != nil {
		return id, "", fmt.Errorf("kb: put %.200q: %w", m.Source, err)
	}
	return id, done, nil
}
