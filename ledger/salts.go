package ledger

import (
	"fmt"
	"strings"
)

// FieldSet is a set of committed fields, a bit each.
type FieldSet byte

// Has reports whether the field is in the set.
func (s FieldSet) Has(f Field) bool { return s&(1<<(f-1)) != 0 }

// String lists the fields' columns.
func (s FieldSet) String() string {
	var names []string
	for f := AgentID; f <= Metadata; f++ {
		if s.Has(f) {
			names = append(names, f.String())
		}
	}
	return strings.Join(names, ", ")
}

// Salts are what a seal keeps of its event's salt: all of it, from which each field's own is derived, or, since a
// field was erased, the fields' own without those of the erased ones. Without its salt nobody can test guesses of
// an erased value against its commitment.
type Salts struct {
	salt   [16]byte
	erased FieldSet
	fields *[Fields]Hash // nil while nothing is erased
}

// WholeSalt is the salt of an event of which nothing is erased.
func WholeSalt(salt [16]byte) Salts { return Salts{salt: salt} }

// ReadSalts reads a seal's salt as it is stored: salt[16], or erased[1], bit n-1 for field n, ‖ field salt[32] of each
// field, zeros of the erased ones.
func ReadSalts(raw []byte) (s Salts, err error) {
	switch {
	case len(raw) == len(s.salt):
		return WholeSalt([16]byte(raw)), nil
	case len(raw) != 1+Fields*len(Hash{}) || raw[0] == 0 || raw[0] >= 1<<Fields:
		return s, fmt.Errorf("a salt of %d bytes", len(raw))
	}
	s.erased, s.fields = FieldSet(raw[0]), new([Fields]Hash)
	for i := range s.fields {
		s.fields[i] = Hash(raw[1+i*len(Hash{}):])
		if s.erased.Has(Field(i+1)) != (s.fields[i] == Hash{}) {
			return s, fmt.Errorf("the salt of %s is there and erased, or neither", Field(i+1))
		}
	}
	return s, nil
}

// Erased returns the fields that are erased.
func (s *Salts) Erased() FieldSet { return s.erased }

// Salt is a field's own salt; zeros where it is erased.
func (s *Salts) Salt(f Field) Hash {
	if s.fields != nil {
		return s.fields[f-1]
	}
	return FieldSalt(s.salt, f)
}
