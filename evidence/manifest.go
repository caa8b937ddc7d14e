// Package evidence is what an outsider is given: a bundle of one tenant's events, complete for the filter
// asked, that verifies offline with the notary's public key. It knows the ledger's formats and nothing else: no
// database, no network, no configuration.
//
// A bundle is a zip file. docs/evidence.md describes each part.
package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// The files of a bundle. Acts are there where something was erased or deleted.
const (
	manifestFile = "manifest.json"
	leavesFile   = "leaves"
	actsFile     = "acts"
	summaryFile  = "summary.html"
)

// The bundle format's versions. The second holds, beside the acts, the rules, holds and requests that bind them, and
// how old what was deleted is proven to be; a bundle without acts is of the first.
const (
	version  = "konstruct/evidence/v1"
	version2 = "konstruct/evidence/v2"
)

// Manifest says what a bundle claims. Nothing in it is believed: each claim is proven by the leaves, the
// signatures and the proofs.
type Manifest struct {
	Version   string    `json:"version"`
	Tenant    string    `json:"tenant_id"`
	CreatedAt time.Time `json:"made_at"`
	Filter    Filter    `json:"filter"`
	Withheld  []string  `json:"withheld,omitempty"` // fields of the matching events that are not opened
	Matching  int64     `json:"matching_events"`
	// From, To and Last are the tenant's checkpoints: the leaves between From and To are in the bundle, and Last
	// is the newest. From is missing where the bundle begins at the log's first leaf.
	From       *Head `json:"from,omitempty"`
	To         Head  `json:"to"`
	LastSigned Head  `json:"last"`
	// Before and After are the hashes that join the bundle's leaves to the rest of the log.
	Before []Hash `json:"before"`
	After  []Hash `json:"after"`
	// Super is the super-log's signed checkpoint, with what witnesses said.
	Super string `json:"super_checkpoint"`
	Keys  []Key  `json:"keys"`
	// Stamp is an RFC 3161 time-stamp of the super-log, the first that covers the range where there is one.
	Stamp   *Stamp `json:"timestamp,omitempty"`
	Summary Hash   `json:"summary_sha256"`
	// Waiting is how many of the tenant's events were sealed and in no log when the bundle was made, and Overdue how
	// many of them should have been, says who made it.
	Waiting int64 `json:"waiting_events,omitempty"`
	Overdue int64 `json:"overdue_events,omitempty"`
	// Sizes are checkpoints that cover what acts of retention deleted: it is at least as old as they are.
	Sizes []TreeSize `json:"ages,omitempty"`
}

// TreeSize is a tenant's signed checkpoint of some time ago, which Last's tree goes on from.
type TreeSize struct {
	Head
	Consistency []Hash `json:"consistency_proof"`
}

// Head is a tenant's signed checkpoint and its place in the super-log.
type Head struct {
	Checkpoint string        `json:"checkpoint"`
	At         ledger.Micros `json:"at_micros"` // since 2000-01-01T00:00:00Z
	Salt       Hash          `json:"salt"`
	Index      int64         `json:"super_index"`
	Proof      []Hash        `json:"super_proof"`
}

// Key is a key of the notary's, and its place in the super-log.
type Key struct {
	Key   string        `json:"key"`
	At    ledger.Micros `json:"at_micros"`
	Index int64         `json:"super_index"`
	Proof []Hash        `json:"super_proof"`
	// Rotation is the super-log's checkpoint that the key before this one signed too, with this one in it.
	Rotation      string `json:"rotation_checkpoint,omitempty"`
	RotationProof []Hash `json:"rotation_proof,omitempty"`
}

// Stamp is a time-stamp of the super-log at a size, and the proof that Super's tree goes on from there.
type Stamp struct {
	Size  int64  `json:"size"`
	Root  Hash   `json:"root"`
	Token []byte `json:"token"` // RFC 3161's TimeStampToken, DER
	Proof []Hash `json:"consistency_proof"`
}

// Hash is 32 bytes, written in base64.
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

// text is the manifest as every bundle has it.
func (m *Manifest) text() ([]byte, error) { return json.MarshalIndent(m, "", "  ") }

// maxManifest bounds a manifest: proofs are some kilobytes.
const maxManifest = 4 << 20

func readManifest(raw []byte) (m Manifest, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", manifestFile, err)
	}
	if d.More() {
		return m, errors.New(manifestFile + ": something stands behind it")
	}
	// A name that stands twice, or in capitals, is read by one program in one way and by another in another.
	if again, err := m.text(); err != nil || !bytes.Equal(again, raw) {
		return m, errors.New(manifestFile + ": it is not written as it should be")
	}
	if m.Version != version && m.Version != version2 {
		return m, fmt.Errorf("%s: version %.40q: this program reads %s and %s", manifestFile, m.Version,
			version, version2)
	}
	return m, nil
}
