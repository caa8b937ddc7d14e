package export

import (
	"encoding/hex"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"github.com/konstruct/konstruct/audit"
)

// row is an event with typed columns.
type row struct {
	ID         uuid.UUID  `parquet:"id,uuid"`
	TenantID   uuid.UUID  `parquet:"tenant_id,uuid"`
	CreatedAt  time.Time  `parquet:"created_at,timestamp(microsecond)"`
	RecordedAt *time.Time `parquet:"recorded_at,optional,timestamp(microsecond)"`
	AgentID    uuid.UUID  `parquet:"agent_id,optional,uuid"` // zero is null
	UserID     *string    `parquet:"user_id,optional,dict"`
	Action     string     `parquet:"action_type,dict"`
	Input      *string    `parquet:"input_summary,optional"`
	Output     *string    `parquet:"output_summary,optional"`
	LatencyMS  *int32     `parquet:"latency_ms,optional"`
	Metadata   string     `parquet:"metadata,json"`
	LeafHash   []byte     `parquet:"leaf_hash,optional"`
	Adopted    bool       `parquet:"adopted"`
	Erased     string     `parquet:"erased,dict"` // column names, separated by spaces
}

// rowGroup is how many rows a row group has at most, which bounds the writer's memory.
const rowGroup = 20_000

type parquetFile struct {
	to   *parquet.GenericWriter[row]
	rows []row
}

func openParquet(w io.Writer) (encoder, error) {
	return &parquetFile{to: parquet.NewGenericWriter[row](w, parquet.Compression(&parquet.Zstd),
		parquet.MaxRowsPerRowGroup(rowGroup))}, nil
}

func (f *parquetFile) add(tenant uuid.UUID, e *audit.StoredEvent) error {
	leaf, err := hex.DecodeString(e.LeafHash)
	if err != nil {
		return err
	}
	if len(leaf) == 0 {
		leaf = nil
	}
	var agent uuid.UUID
	if e.AgentID != nil {
		agent = *e.AgentID
	}
	f.rows = append(f.rows, row{e.ID, tenant, e.CreatedAt, e.RecordedAt, agent, e.UserID, e.Action, e.Input, e.Output,
		e.LatencyMS, string(e.Metadata), leaf, e.Adopted, strings.Join(e.Erased, " ")})
	if len(f.rows) < 1000 {
		return nil
	}
	return f.flush()
}

func (f *parquetFile) flush() error {
	_, err := f.to.Write(f.rows)
	f.rows = f.rows[:0]
	return err
}

func (f *parquetFile) end() error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.to.Close()
}
