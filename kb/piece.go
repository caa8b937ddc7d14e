package kb

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// queuePieces writes the vectors of chunks' pieces after the first, which is the chunk's own: a search finds the chunk
// by the nearest of them.
func queuePieces(b *pgx.Batch, tenant, document uuid.UUID, chunks []uuid.UUID, language string,
	vectors [][][]float32) {
	var rows [][]any
	for i, pieces := range vectors {
		for n, vector := range pieces {
			rows = append(rows, []any{tenant, document, pieceID(chunks[i], n+1), chunks[i], language, vector})
		}
	}
	for len(rows) > 0 {
		some := rows[:min(rowsAtOnce, tenantdb.StatementRows(len(rows)))]
		var sql strings.Builder
		sql.WriteString(`INSERT INTO kb_points (tenant_id, document_id, chunk_id, piece_of, language, half)
			SELECT v.tenant, v.document, v.piece, v.chunk, v.language, l2_normalize(v.vector::vector)::halfvec(384)
			  FROM (VALUES `)
		tenantdb.Values(&sql, len(some), "uuid", "uuid", "uuid", "uuid", "text", "real[]")
		sql.WriteString(`) v (tenant, document, piece, chunk, language, vector)`)
		b.Queue(sql.String(), slices.Concat(some...)...)
		rows = rows[len(some):]
	}
}

// pieceID is the id of a chunk's piece, which is no chunk's.
func pieceID(chunk uuid.UUID, n int) uuid.UUID {
	return uuid.NewSHA1(chunk, fmt.Appendf(nil, "piece %d", n))
}
