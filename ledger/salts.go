package ledger

import (
	"fmt"
	"strings"
)

// FieldSet is a set of committed fields, one bit each.
type FieldSet byte

// Has reports whether the field is in the set.
func (s FieldSet) Has(f Field) bool { return s&(1<<(f-1)) != 0 }

// String lists the column names of the fields.
func (s FieldSet) String() string {
	var names []string
	for f := AgentID; f <= Metadata; f++ {
		if s.Has(f) {
			names = append(names, f.String())
		}
	}
	return strings.Join(names, ", ")
}

// Salts are the salts in an event's seal. While nothing is erased they are one row salt, from which the fields' salts
// are derived. After an erasure they are the salts of the remaining fields. Without its salt, nobody can test guesses
// of an erased value against its commitment.
type Salts struct {
	salt   [16]byte
	erased FieldSet
	fields *[Fields]Hash // nil while nothing is erased
}

// WholeSalt returns the salts of an event of which nothing is erased.
func WholeSalt(salt [16]byte) Salts { return Salts{salt: salt} }

// ReadSalts parses a seal's stored salt. It is salt[16] while nothing is erased. After an erasure it is erased[1], bit
// n-1 for field n, ‖ the seven fields' salts, 32 bytes each, zeros for an erased field.
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
			return s, fmt.Errorf("the salt of %s contradicts its erased bit", Field(i+1))
		}
	}
	return s, nil
}

// Erased returns the fields that are erased.
func (s *Salts) Erased() FieldSet { return s.erased }

// Salt returns a field's salt; zeros if the field is erased.
func (s *Salts) Salt(f Field) Hash {
	if s.fields != nil {
		return s.fields[f-1]
	}
	return FieldSalt(s.salt, f)
}
