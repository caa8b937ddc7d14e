package ledger

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

const (
	headDomain = "konstruct/head/v1"
	keyDomain  = "konstruct/key/v1"
)

// HeadLeaf returns the super-log's leaf for a tenant's checkpoint: the time of signing in the clear, and a salted hash.
// A reader of the super-log learns neither which tenants there are nor how large their logs are.
//
//	"konstruct/head/v1" ‖ at[8] ‖ sha256("konstruct/head/v1" ‖ salt[32] ‖ the checkpoint's text)
func HeadLeaf(at Micros, salt [32]byte, c Checkpoint) []byte {
	h := sha256.New()
	h.Write([]byte(headDomain))
	h.Write(salt[:])
	h.Write([]byte(c.Text()))
	b := binary.BigEndian.AppendUint64([]byte(headDomain), uint64(at))
	return h.Sum(b)
}

// KeyLeaf returns the super-log's leaf for a notary's key; at is the time from which the key signs:
//
//	"konstruct/key/v1" ‖ at[8] ‖ the key in signed-note form
func KeyLeaf(at Micros, k Key) []byte {
	b := binary.BigEndian.AppendUint64([]byte(keyDomain), uint64(at))
	return append(b, k.String()...)
}

// DecodeBase64 decodes standard base64 in strict mode: padding bits must be zero. It ignores line ends (CR and LF).
func DecodeBase64(s string) ([]byte, error) { return base64.StdEncoding.Strict().DecodeString(s) }

// EncodeBase64 encodes bytes in standard base64.
func EncodeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
