package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"

	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Key is a notary's public key. One Ed25519 key signs the super-log, the tenants' logs (each under its own name) and
// receipts. The first line of each text says which kind it is, so that a signature on one is not valid for another.
type Key struct {
	Name   string
	Public ed25519.PublicKey
}

// ParseKey parses a key in signed-note form, name+hash+base64, as `konstruct notary key show` prints it.
func ParseKey(vkey string) (Key, error) {
	vkey = strings.TrimSpace(vkey)
	if _, err := note.NewVerifier(vkey); err != nil {
		return Key{}, fmt.Errorf("%.80q is no key in signed-note form (name+hash+base64): %w", vkey, err)
	}
	name, rest, _ := strings.Cut(vkey, "+")
	if err := CheckName(name); err != nil {
		return Key{}, err
	}
	// NewVerifier has checked the rest: hash+base64, and the base64 holds the algorithm's byte and the key.
	raw, err := DecodeBase64(rest[strings.Index(rest, "+")+1:])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return Key{}, fmt.Errorf("%.80q is no Ed25519 key", vkey)
	}
	return Key{name, ed25519.PublicKey(raw[1:])}, nil
}

// String returns the key in signed-note form.
func (k Key) String() string { return k.under(k.Name) }

func (k Key) under(name string) string {
	s, err := note.NewEd25519VerifierKey(name, k.Public)
	if err != nil {
		return "" // only a key of the wrong length fails
	}
	return s
}

// Equal reports whether two keys have the same name and the same public key.
func (k Key) Equal(o Key) bool { return k.Name == o.Name && k.Public.Equal(o.Public) }

// OfTenant returns the same public key under the name of a tenant's log.
func (k Key) OfTenant(tenant [16]byte) Key { return Key{Origin(k.Name, tenant), k.Public} }

// Verifier returns a verifier of signatures made under the key's name.
func (k Key) Verifier() (note.Verifier, error) { return note.NewVerifier(k.String()) }

// Signer holds a notary's private key.
type Signer struct {
	Key
	private ed25519.PrivateKey
}

// NewSigner returns a signer with a private key and a notary's name.
func NewSigner(name string, private ed25519.PrivateKey) (*Signer, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if len(private) != ed25519.PrivateKeySize {
		return nil, errors.New("not an Ed25519 private key")
	}
	return &Signer{Key{name, private.Public().(ed25519.PublicKey)}, private}, nil
}

// privateMark is the prefix of a private key in the form of golang.org/x/mod/sumdb/note.
const privateMark = "PRIVATE+KEY+"

// Private returns the private key in the form of golang.org/x/mod/sumdb/note: PRIVATE+KEY+name+hash+base64.
func (s *Signer) Private() string {
	hash, _, _ := strings.Cut(strings.TrimPrefix(s.String(), s.Name+"+"), "+")
	// 1 is signed-note's algorithm number for Ed25519
	return privateMark + s.Name + "+" + hash + "+" + EncodeBase64(append([]byte{1}, s.private.Seed()...))
}

// ParseSigner parses a private key that Private wrote.
func ParseSigner(text string) (*Signer, error) {
	const what = "not a private key in signed-note form (PRIVATE+KEY+name+hash+base64)"
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), privateMark)
	parts := strings.SplitN(rest, "+", 3)
	if !ok || len(parts) != 3 {
		return nil, errors.New(what)
	}
	raw, err := DecodeBase64(parts[2])
	if err != nil || len(raw) != 1+ed25519.SeedSize || raw[0] != 1 {
		return nil, errors.New(what)
	}
	s, err := NewSigner(parts[0], ed25519.NewKeyFromSeed(raw[1:]))
	if err == nil && s.Private() != strings.TrimSpace(text) {
		err = errors.New("the private key's hash is not its name's and key's")
	}
	return s, err
}

// Sign returns the text as a note signed under a name: a log's or the notary's own.
func (s *Signer) Sign(name, text string) (string, error) { return SignAll(name, text, s) }

// SignAll returns the text as a note signed by several keys under one name.
func SignAll(name, text string, signers ...*Signer) (string, error) {
	var all []note.Signer
	for _, s := range signers {
		v, err := note.NewVerifier(s.under(name))
		if err != nil {
			return "", fmt.Errorf("sign as %s: %w", name, err)
		}
		all = append(all, noteSigner{v, s.private})
	}
	signed, err := note.Sign(&note.Note{Text: text}, all...)
	if err != nil {
		return "", fmt.Errorf("sign as %s: %w", name, err)
	}
	return string(signed), nil
}

// noteSigner implements note.Signer.
type noteSigner struct {
	note.Verifier
	private ed25519.PrivateKey
}

// Sign signs a note's text.
func (s noteSigner) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.private, text), nil }

// OpenNote verifies that a key signed a note, and returns the note's text. It ignores signatures of other keys.
func OpenNote(signed string, k Key) (string, error) {
	if len(signed) > maxNote {
		return "", fmt.Errorf("a signed note of %d bytes: the limit is %d", len(signed), maxNote)
	}
	v, err := k.Verifier()
	if err != nil {
		return "", err
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &unverified) {
			return "", fmt.Errorf("it is not signed by %s", k)
		}
		return "", fmt.Errorf("%w (by %s)", err, k)
	}
	return n.Text, nil
}

// maxNote is the limit on a signed note in bytes: a few lines of text and the signatures of many witnesses.
const maxNote = 64 << 10

// OpenCheckpoint verifies that the key signed a checkpoint of the log that has the key's name, and returns the
// checkpoint.
func OpenCheckpoint(signed string, k Key) (Checkpoint, error) {
	text, err := OpenNote(signed, k)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := ParseCheckpoint(text)
	if err == nil && c.Origin != k.Name {
		err = fmt.Errorf("it is a checkpoint of %s, not of %s", c.Origin, k.Name)
	}
	return c, err
}

// Cosignature is a witness's signature on a checkpoint.
type Cosignature struct {
	Witness string // the witness's name
	At      int64  // when it signed, in Unix seconds by its own clock
}

// Verifier verifies signatures of one key on notes.
type Verifier = note.Verifier

// ParseWitness parses a witness's key in signed-note form: cosignature/v1 (Ed25519) of C2SP tlog-cosignature.
func ParseWitness(vkey string) (note.Verifier, error) {
	v, err := cosign.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		return nil, fmt.Errorf("%.80q is no witness's key in signed-note form: %w", vkey, err)
	}
	return v, nil
}

// Cosignatures returns the cosignatures of these witnesses on a signed note. A forged cosignature is an error.
func Cosignatures(signed string, witnesses []note.Verifier) ([]Cosignature, error) {
	if len(signed) > maxNote {
		return nil, fmt.Errorf("a signed note of %d bytes: the limit is %d", len(signed), maxNote)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(witnesses...))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Cosignature
	for _, s := range n.Sigs {
		at, err := cosign.CoSigV1Timestamp(s)
		if err != nil {
			return nil, fmt.Errorf("the signature of %s: %w", s.Name, err)
		}
		out = append(out, Cosignature{s.Name, at.Unix()})
	}
	return out, nil
}
