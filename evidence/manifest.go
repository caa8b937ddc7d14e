// Package evidence makes and verifies bundles: the events of one tenant that match a filter, complete and verifiable
// offline with the notary's public key. It knows only the ledger's formats: no database, no network, no configuration.
//
// A bundle is a zip file. docs/evidence.md describes each part.
package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// The files of a bundle. The acts file is there if something was erased or deleted.
const (
	manifestFile = "manifest.json"
	leavesFile   = "leaves"
	actsFile     = "acts"
	summaryFile  = "summary.html"
)

// The versions of the bundle format. Version 2 adds the rules, holds and requests that restrict acts, and checkpoints
// that prove the age of what was deleted. A bundle without acts has version 1. Version 3 adds refusals of requests; a
// bundle without one has an earlier version.
const (
	version  = "konstruct/evidence/v1"
	version2 = "konstruct/evidence/v2"
	version3 = "konstruct/evidence/v3"
)

// Manifest has a bundle's claims. The verifier trusts none of them: the leaves, the signatures and the proofs must
// prove each one.
type Manifest struct {
	Version   string    `json:"version"`
	Tenant    string    `json:"tenant_id"`
	CreatedAt time.Time `json:"made_at"`
	Filter    Filter    `json:"filter"`
	Withheld  []string  `json:"withheld,omitempty"` // fields of the matching events that are not opened
	Matching  int64     `json:"matching_events"`
	// From, To and LastSigned are the tenant's checkpoints. The bundle has the leaves between From and To, and
	// LastSigned is the newest. From is missing if the bundle begins at the log's first leaf.
	From       *Head `json:"from,omitempty"`
	To         Head  `json:"to"`
	LastSigned Head  `json:"last"`
	// Before and After are subtree hashes that join the bundle's leaves to the rest of the log.
	Before []Hash `json:"before"`
	After  []Hash `json:"after"`
	// Super is the super-log's signed checkpoint, with the witnesses' cosignatures.
	Super string `json:"super_checkpoint"`
	Keys  []Key  `json:"keys"`
	// Stamp is an RFC 3161 time-stamp of the super-log: the first one that covers the range, if there is one.
	Stamp   *Stamp `json:"timestamp,omitempty"`
	Summary Hash   `json:"summary_sha256"`
	// Waiting is how many of the tenant's events were sealed but in no log when the bundle was made. Overdue is how
	// many of those should already have been in it. Both are only the maker's claim.
	Waiting int64 `json:"waiting_events,omitempty"`
	Overdue int64 `json:"overdue_events,omitempty"`
	// Sizes are older checkpoints that cover what retention acts deleted. They prove how old it was.
	Sizes []TreeSize `json:"ages,omitempty"`
}

// TreeSize is an older signed checkpoint of the tenant's log, with a consistency proof from it to LastSigned.
type TreeSize struct {
	Head
	Consistency []Hash `json:"consistency_proof"`
}

// Head is a tenant's signed checkpoint, with its inclusion proof in the super-log.
type Head struct {
	Checkpoint string        `json:"checkpoint"`
	At         ledger.Micros `json:"at_micros"` // since 2000-01-01T00:00:00Z
	Salt       Hash          `json:"salt"`
	Index      int64         `json:"super_index"`
	Proof      []Hash        `json:"super_proof"`
}

// Key is a key of the notary, with its inclusion proof in the super-log.
type Key struct {
	Key   string        `json:"key"`
	At    ledger.Micros `json:"at_micros"`
	Index int64         `json:"super_index"`
	Proof []Hash        `json:"super_proof"`
	// Rotation is the super-log's checkpoint that contains this key and that the previous key signed too. RotationProof
	// proves the key in it.
	Rotation      string `json:"rotation_checkpoint,omitempty"`
	RotationProof []Hash `json:"rotation_proof,omitempty"`
}

// Stamp is a time-stamp of the super-log at a size, with a consistency proof from there to Super.
type Stamp struct {
	Size  int64  `json:"size"`
	Root  Hash   `json:"root"`
	Token []byte `json:"token"` // RFC 3161's TimeStampToken, DER
	Proof []Hash `json:"consistency_proof"`
}

// Hash is a SHA-256 digest of 32 bytes, in base64 in JSON.
type Hash ledger.Hash

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(ledger.EncodeBase64(h[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	raw, err := ledger.DecodeBase64(string(text))
	if err != nil || len(raw) != len(h) {
		return fmt.Errorf("%.60q is no hash in base64", text)
	}
	*h = Hash(raw)
	return nil
}

// text returns the manifest's one form in bundles.
func (m *Manifest) text() ([]byte, error) { return json.MarshalIndent(m, "", "  ") }

// maxManifest is the limit on a manifest in bytes; proofs take some kilobytes.
const maxManifest = 4 << 20

// manifestError says what is wrong with a manifest, in no words of Go.
func manifestError(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("%s: the manifest is not valid: %s", manifestFile, kind.Field)
	case errors.As(err, &syntax), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: the manifest is not JSON", manifestFile)
	}
	return fmt.Errorf("%s: the manifest is not valid: %s", manifestFile, strings.TrimPrefix(err.Error(), "json: "))
}

func readManifest(raw []byte) (m Manifest, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, manifestError(err)
	}
	if d.More() {
		return m, errors.New(manifestFile + ": something stands behind it")
	}
	// JSON readers disagree on duplicate names and on the case of names, so only the exact form is accepted.
	if again, err := m.text(); err != nil || !bytes.Equal(again, raw) {
		return m, errors.New(manifestFile + ": it is not written as it should be")
	}
	if m.Version != version && m.Version != version2 && m.Version != version3 {
		return m, fmt.Errorf("%s: version %.40q: this program reads %s, %s and %s", manifestFile, m.Version,
			version, version2, version3)
	}
	return m, nil
}
