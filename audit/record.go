package audit

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"
)

// An event in the spool is encoded as: a version byte; a byte that is 1 if the spool set created_at; the tenant, event
// and agent ids; created_at in Unix microseconds and the latency in milliseconds as varints; then user, action, input,
// output and metadata, each with its length in bytes as a varint. It is encoded after checks and redaction, with its id
// and time.
const recordVersion = 1

var errRecord = errors.New("audit: not an event in the spool's encoding: was it written by a newer program?")

func (e Event) record(tenant uuid.UUID) []byte {
	texts := [...]string{e.UserID, e.Action, e.Input, e.Output, string(e.Metadata)}
	size := 2 + 3*16 + 2*binary.MaxVarintLen64
	for _, t := range texts {
		size += binary.MaxVarintLen32 + len(t)
	}
	b := append(make([]byte, 0, size), recordVersion, 0)
	if e.stamped {
		b[1] = 1
	}
	b = append(b, tenant[:]...)
	b = append(b, e.ID[:]...)
	b = append(b, e.AgentID[:]...)
	b = binary.AppendVarint(b, e.At.UnixMicro())
	b = binary.AppendVarint(b, e.Latency.Milliseconds())
	for _, t := range texts {
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	return b
}

func readRecord(b []byte) (tenant uuid.UUID, e Event, err error) {
	if len(b) < 2+3*16 || b[0] != recordVersion || b[1] > 1 {
		return tenant, e, errRecord
	}
	e.stamped = b[1] == 1
	b = b[2:]
	for _, id := range []*uuid.UUID{&tenant, &e.ID, &e.AgentID} {
		copy(id[:], b)
		b = b[16:]
	}
	var numbers [2]int64
	for i := range numbers {
		v, n := binary.Varint(b)
		if n <= 0 {
			return tenant, e, errRecord
		}
		numbers[i], b = v, b[n:]
	}
	e.At, e.Latency = time.UnixMicro(numbers[0]).UTC(), time.Duration(numbers[1])*time.Millisecond
	var metadata string
	for _, to := range []*string{&e.UserID, &e.Action, &e.Input, &e.Output, &metadata} {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return tenant, e, errRecord
		}
		*to, b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	if len(b) > 0 {
		return tenant, e, errRecord
	}
	e.Metadata = []byte(metadata)
	return tenant, e, nil
}
