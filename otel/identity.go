package otel

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// derived returns a UUIDv8 (RFC 9562) of the SHA-256 of parts, each with its length.
func derived(parts ...[]byte) (id uuid.UUID) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	copy(id[:], h.Sum(nil))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id
}

// SpanEventID returns the id of the event that a span becomes. It follows from the trace's and the span's id, so that a
// retried export, and a log record that reports the same call, meet the same event; and from the agent that the
// credential is bound to, so that no agent can be first with another's.
func SpanEventID(trace pcommon.TraceID, span pcommon.SpanID, bound uuid.UUID) uuid.UUID {
	if bound == uuid.Nil {
		return derived([]byte("konstruct otel span"), trace[:], span[:])
	}
	return derived([]byte("konstruct otel span"), trace[:], span[:], bound[:])
}

// AgentID returns the agent of a name: the UUID that the name is, or one derived from it. Empty: uuid.Nil.
func AgentID(name string) uuid.UUID {
	if name == "" {
		return uuid.Nil
	}
	if id, err := uuid.Parse(name); err == nil && len(name) == 36 {
		return id
	}
	return derived([]byte("konstruct otel agent"), []byte(name))
}
