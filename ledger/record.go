package ledger

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Record is an event as an outsider gets it: each field is either opened or only committed to. Its leaf hash is the
// same whichever fields are opened or erased.
type Record struct {
	TenantID, ID          [16]byte
	CreatedAt, RecordedAt Micros
	Mode                  Mode
	Erased                FieldSet      // fields that can't be opened any more
	Shown                 [Fields]Shown // by Field - 1
	// Gone is true for a deleted event, of which only the id and the leaf hash are left.
	Gone bool
	Leaf Hash
}

// Shown is one field of a record.
type Shown struct {
	Open       bool
	Commitment Hash   // of a field that is not opened; otherwise zero
	Salt       Hash   // of an opened field, by FieldSalt
	Null       bool   // whether an opened field is NULL
	Value      []byte // an opened field's bytes, in the form of docs/leaf-format.md
}

// Show opens the fields for which open returns true and that are not erased. Of the other fields it shows the
// commitments.
func (r *Record) Show(values *Values, salts *Salts, commitments *[Fields]Hash, open func(Field) bool) {
	r.Erased = salts.Erased()
	for f := AgentID; f <= Metadata; f++ {
		value := values[f-1]
		if open(f) && !r.Erased.Has(f) {
			r.Shown[f-1] = Shown{Open: true, Salt: salts.Salt(f), Null: value == nil, Value: value}
		} else {
			r.Shown[f-1] = Shown{Commitment: commitments[f-1]}
		}
	}
}

// Hash returns the record's leaf hash.
func (r *Record) Hash() Hash {
	if r.Gone {
		return r.Leaf
	}
	var c [Fields]Hash
	for i := range r.Shown {
		s := &r.Shown[i]
		if s.Open {
			c[i] = Commit(s.Salt, Field(i+1), s.Value, !s.Null)
		} else {
			c[i] = s.Commitment
		}
	}
	return EventHash(r.TenantID, r.ID, r.CreatedAt, r.RecordedAt, r.Mode, &c)
}

// MaxValue is the limit on one field of a record in bytes.
const MaxValue = 1 << 20

const (
	modeGone  = 0xffff // takes the mode's place for a deleted event
	hasErased = 1 << 7 // a bit in the byte of opened fields
)

// AppendBinary appends the record in the form that bundles and proofs use, without the tenant. Integers are big-endian:
//
//	id[16] ‖ created_at[8] ‖ recorded_at[8] ‖ mode[2] ‖ opened[1], bit n-1 for field n
//	where bit 7 of opened is set: erased[1], bit n-1 for field n
//	then each field: 32 bytes of commitment, or its salt[32] ‖ 00 for NULL | 01 ‖ length[4] ‖ bytes
//
// For a deleted event: id[16] ‖ 0[16] ‖ ff ff ‖ 0[1] ‖ leaf hash[32].
func (r *Record) AppendBinary(b []byte) []byte {
	b = append(b, r.ID[:]...)
	if r.Gone {
		b = append(b, make([]byte, 16)...)
		b = append(binary.BigEndian.AppendUint16(b, modeGone), 0)
		return append(b, r.Leaf[:]...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.CreatedAt))
	b = binary.BigEndian.AppendUint64(b, uint64(r.RecordedAt))
	b = binary.BigEndian.AppendUint16(b, uint16(r.Mode))
	opened := byte(0)
	for i := range r.Shown {
		if r.Shown[i].Open {
			opened |= 1 << i
		}
	}
	if r.Erased != 0 {
		b = append(b, opened|hasErased, byte(r.Erased))
	} else {
		b = append(b, opened)
	}
	for i := range r.Shown {
		s := &r.Shown[i]
		if !s.Open {
			b = append(b, s.Commitment[:]...)
			continue
		}
		b = append(b, s.Salt[:]...)
		if s.Null {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		b = binary.BigEndian.AppendUint32(b, uint32(len(s.Value)))
		b = append(b, s.Value...)
	}
	return b
}

// ErrRecord is returned for bytes that are not a valid record.
var ErrRecord = errors.New("not an event's record")

// Read reads the next record; the caller sets TenantID before. It returns io.EOF when there are no more records. Values
// are valid until the next Read.
func (r *Record) Read(from *bufio.Reader) error {
	var head [16 + 8 + 8 + 2 + 1]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: it is cut off", ErrRecord)
		}
		return err
	}
	copy(r.ID[:], head[:])
	r.CreatedAt = Micros(binary.BigEndian.Uint64(head[16:]))
	r.RecordedAt = Micros(binary.BigEndian.Uint64(head[24:]))
	r.Mode = Mode(binary.BigEndian.Uint16(head[32:]))
	opened := head[34]
	r.Gone, r.Erased = binary.BigEndian.Uint16(head[32:]) == modeGone, 0
	if r.Gone {
		r.Mode = 0
		if opened != 0 || r.CreatedAt != 0 || r.RecordedAt != 0 {
			return fmt.Errorf("%w: it was deleted, and shows something", ErrRecord)
		}
		for i := range r.Shown {
			r.Shown[i].Open = false
		}
		_, err := io.ReadFull(from, r.Leaf[:])
		return wholeRecord(err)
	}
	if opened&hasErased != 0 {
		mask, err := from.ReadByte()
		if err != nil {
			return wholeRecord(err)
		}
		opened &^= hasErased
		if mask == 0 || mask >= 1<<Fields || mask&opened != 0 {
			return fmt.Errorf("%w: fields %08b are erased, and %08b opened", ErrRecord, mask, opened)
		}
		r.Erased = FieldSet(mask)
	}
	for i := range r.Shown {
		if err := r.Shown[i].read(from, opened&(1<<i) != 0); err != nil {
			return wholeRecord(err)
		}
	}
	return nil
}

// wholeRecord turns an end of file within a record into an ErrRecord.
func wholeRecord(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off", ErrRecord)
	}
	return err
}

func (s *Shown) read(from *bufio.Reader, open bool) error {
	s.Open, s.Null, s.Value = open, false, s.Value[:0]
	if !open {
		_, err := io.ReadFull(from, s.Commitment[:])
		return err
	}
	if _, err := io.ReadFull(from, s.Salt[:]); err != nil {
		return err
	}
	there, err := from.ReadByte()
	if err != nil {
		return err
	}
	switch there {
	case 0:
		s.Null = true
		return nil
	case 1:
	default:
		return fmt.Errorf("%w: a field's NULL marker is neither 0 nor 1", ErrRecord)
	}
	var size [4]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxValue {
		return fmt.Errorf("%w: a field of %d bytes, the limit is %d", ErrRecord, n, MaxValue)
	}
	if uint32(cap(s.Value)) < n {
		s.Value = make([]byte, n)
	}
	s.Value = s.Value[:n]
	_, err = io.ReadFull(from, s.Value)
	return err
}

// ReadOpened parses the extra data of a proof: the tenant's id and one record.
func ReadOpened(extra []byte) (r Record, err error) {
	if len(extra) < 16 {
		return r, ErrRecord
	}
	r.TenantID = [16]byte(extra)
	from := bufio.NewReader(bytes.NewReader(extra[16:]))
	if err := r.Read(from); err != nil {
		return r, errors.Join(ErrRecord, err)
	}
	if _, err := from.ReadByte(); err == nil {
		return r, fmt.Errorf("%w: there is data after it", ErrRecord)
	}
	return r, nil
}
