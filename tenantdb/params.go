package tenantdb

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// Params are a statement's parameters, encoded as PostgreSQL's protocol has them: numbers, times and UUIDs in binary,
// texts and JSON as texts. The statement must say each one's type ($1::uuid), unless it is plain from where it stands.
// A batch of events has thousands, which pgx's general way encodes in three times the time.
type Params struct {
	values  [][]byte
	formats []int16
	buf     []byte
}

// Grow makes room for so many further parameters of so many bytes in all.
func (p *Params) Grow(params, bytes int) {
	p.values, p.formats = slices.Grow(p.values, params), slices.Grow(p.formats, params)
	p.buf = slices.Grow(p.buf, bytes)
}

// end adds the parameter that was written behind from.
func (p *Params) end(from int, format int16) {
	p.values = append(p.values, p.buf[from:len(p.buf):len(p.buf)])
	p.formats = append(p.formats, format)
}

// Add adds an argument of a statement as pgx takes it: a pointer, where nil is NULL. It panics for one of another type.
func (p *Params) Add(v any) {
	switch v := v.(type) {
	case *[16]byte:
		if v != nil {
			p.UUID(*v)
			return
		}
	case *string:
		if v != nil {
			p.Text(*v)
			return
		}
	case *int32:
		if v != nil {
			p.Int(*v)
			return
		}
	case *time.Time:
		if v != nil {
			p.Time(*v)
			return
		}
	case *json.RawMessage:
		if v != nil {
			p.JSON(*v)
			return
		}
	default:
		panic(fmt.Sprintf("tenantdb: a parameter of type %T", v))
	}
	p.Null()
}

// Null adds NULL.
func (p *Params) Null() {
	p.values, p.formats = append(p.values, nil), append(p.formats, pgtype.TextFormatCode)
}

// UUID adds a uuid.
func (p *Params) UUID(id uuid.UUID) {
	from := len(p.buf)
	p.buf = append(p.buf, id[:]...)
	p.end(from, pgtype.BinaryFormatCode)
}

// UUIDs adds a uuid[].
func (p *Params) UUIDs(ids []uuid.UUID) {
	from := len(p.buf)
	for _, n := range []uint32{1, 0, pgtype.UUIDOID, uint32(len(ids)), 1} { // dimensions, NULLs, type, length, first
		p.buf = binary.BigEndian.AppendUint32(p.buf, n)
	}
	for i := range ids {
		p.buf = append(binary.BigEndian.AppendUint32(p.buf, 16), ids[i][:]...)
	}
	p.end(from, pgtype.BinaryFormatCode)
}

// Text adds a text.
func (p *Params) Text(s string) {
	from := len(p.buf)
	p.buf = append(p.buf, s...)
	p.end(from, pgtype.TextFormatCode)
}

// Bytes adds a bytea.
func (p *Params) Bytes(b []byte) {
	from := len(p.buf)
	p.buf = append(p.buf, b...)
	p.end(from, pgtype.BinaryFormatCode)
}

// JSON adds a json or jsonb, and NULL for nil.
func (p *Params) JSON(raw []byte) {
	if raw == nil {
		p.Null()
		return
	}
	from := len(p.buf)
	p.buf = append(p.buf, raw...)
	p.end(from, pgtype.TextFormatCode)
}

// Int adds an int.
func (p *Params) Int(n int32) {
	from := len(p.buf)
	p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(n))
	p.end(from, pgtype.BinaryFormatCode)
}

// y2k is where PostgreSQL counts times from, in µs.
var y2k = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// Time adds a timestamptz, which has µs.
func (p *Params) Time(t time.Time) {
	from := len(p.buf)
	p.buf = binary.BigEndian.AppendUint64(p.buf, uint64(t.UnixMicro()-y2k))
	p.end(from, pgtype.BinaryFormatCode)
}
