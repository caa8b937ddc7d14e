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

// The files of a bundle; timestamps are optional.
const (
	manifestFile = "manifest.json"
	leavesFile   = "leaves"
	summaryFile  = "summary.html"
)

// version is the bundle format's.
const version = "konstruct/evidence/v1"

// Manifest says what a bundle claims. Nothing in it is believed: each claim is proven by the leaves, the
// signatures and the proofs.
type Manifest struct {
	Version  string    `json:"version"`
	Tenant   string    `json:"tenant_id"`
	Made     time.Time `json:"made_at"`
	Filter   Filter    `json:"filter"`
	Withheld []string  `json:"withheld,omitempty"` // fields of the matching events that are not opened
	Matching int64     `json:"matching_events"`
	// From, To and Last are the tenant's checkpoints: the leaves between From and To are in the bundle, and Last
	// is the newest. From is missing where the bundle begins at the log's first leaf.
	From *Head `json:"from,omitempty"`
	To   Head  `json:"to"`
	Last Head  `json:"last"`
	// Before and After are the hashes that join the bundle's leaves to the rest of the log.
	Before []Hash `json:"before"`
	After  []Hash `json:"after"`
	// Super is the super-log's signed checkpoint, with what witnesses said.
	Super string `json:"super_checkpoint"`
	Keys  []Key  `json:"keys"`
	// Stamp is an RFC 3161 time-stamp of the super-log, the first that covers the range where there is one.
	Stamp   *Stamp `json:"timestamp,omitempty"`
	Summary Hash   `json:"summary_sha256"`
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
func (h Hash) MarshalText() ([]byte, error) { return []byte(ledger.Encode64(h[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	raw, err := ledger.Decode64(string(text))
	if err != nil || len(raw) != len(h) {
		return fmt.Errorf("%.60q is no hash in base64", text)
	}
	*h = Hash(raw)
	return nil
}

// Filter says which events were asked for. Times are of recorded_at, the database's own; zero fields do not matter.
type Filter struct {
	Since  time.Time `json:"since,omitzero"` // inclusive
	Until  time.Time `json:"until,omitzero"` // exclusive
	Agent  string    `json:"agent_id,omitempty"`
	User   *string   `json:"user_id,omitempty"`
	Action *string   `json:"action_type,omitempty"`
}

// String is the filter in words.
func (f Filter) String() string {
	var b bytes.Buffer
	say := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, format, args...)
	}
	if f.Agent != "" {
		say("agent_id = %s", f.Agent)
	}
	if f.User != nil {
		say("user_id = %q", *f.User)
	}
	if f.Action != nil {
		say("action_type = %q", *f.Action)
	}
	if !f.Since.IsZero() {
		say("recorded from %s", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		say("recorded before %s", f.Until.UTC().Format(time.RFC3339Nano))
	}
	if b.Len() == 0 {
		return "every event"
	}
	return b.String()
}

// condition is one field that must have one value.
type condition struct {
	field ledger.Field
	value []byte
}

// conditions are the filter's fields, those that reveal least when they are opened first.
func (f Filter) conditions() (all []condition, err error) {
	if f.Action != nil {
		all = append(all, condition{ledger.ActionType, []byte(*f.Action)})
	}
	if f.Agent != "" {
		id, err := ledger.ParseID(f.Agent)
		if err != nil {
			return nil, fmt.Errorf("agent_id: %w", err)
		}
		all = append(all, condition{ledger.AgentID, id[:]})
	}
	if f.User != nil {
		all = append(all, condition{ledger.UserID, []byte(*f.User)})
	}
	return all, nil
}

// inTime reports whether an event was recorded in the time asked for.
func (f Filter) inTime(recorded ledger.Micros) bool {
	return (f.Since.IsZero() || recorded >= ledger.MicrosOf(f.Since)) && (f.Until.IsZero() || recorded < ledger.MicrosOf(f.Until))
}

// Disclose decides what a record shows of an event: all fields but the withheld of one that matches, the one
// field that shows it does not of one that does not, and nothing of one whose time shows that already.
func (m *Manifest) Disclose(recorded ledger.Micros, values *ledger.Values) (open func(ledger.Field) bool, matches bool, err error) {
	none := func(ledger.Field) bool { return false }
	if !m.Filter.inTime(recorded) {
		return none, false, nil
	}
	conditions, err := m.Filter.conditions()
	if err != nil {
		return nil, false, err
	}
	for _, c := range conditions {
		if value := values[c.field-1]; value == nil || !bytes.Equal(value, c.value) {
			return func(f ledger.Field) bool { return f == c.field }, false, nil
		}
	}
	withheld, err := m.withheld()
	if err != nil {
		return nil, false, err
	}
	return func(f ledger.Field) bool { return !withheld[f] }, true, nil
}

// withheld are the fields that matching events do not open; a field that the filter asks for can't be.
func (m *Manifest) withheld() (map[ledger.Field]bool, error) {
	out := map[ledger.Field]bool{}
	for _, name := range m.Withheld {
		f, err := ledger.FieldOf(name)
		if err != nil {
			return nil, err
		}
		out[f] = true
	}
	conditions, err := m.Filter.conditions()
	if err != nil {
		return nil, err
	}
	for _, c := range conditions {
		if out[c.field] {
			return nil, fmt.Errorf("%s is withheld, and the filter asks for it: whoever is shown that an event matches knows it", c.field)
		}
	}
	return out, nil
}

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
	if m.Version != version {
		return m, fmt.Errorf("%s: version %.40q: this program reads %s", manifestFile, m.Version, version)
	}
	return m, nil
}
