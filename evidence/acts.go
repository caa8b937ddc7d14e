package evidence

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// The action types of events that record a compliance act.
const (
	ActionErasure   = "erasure"
	ActionRetention = "retention"
	ActionRule      = "retention_rule"
	ActionHold      = "legal_hold"
	ActionRequest   = "compliance_request"
	// The refusals of a request: that of an erasure, and those of all others.
	ActionErasureDeclined = "erasure_declined"
	ActionDeclined        = "compliance_declined"
)

// Act is an event of the tenant's log that records what was erased or deleted, or what restricts such acts: a retention
// rule, a legal hold, a request for a second person's approval, or its refusal. A bundle proves it like any other
// event.
type Act struct {
	Event      string    `json:"event_id"`
	Action     string    `json:"action_type"`
	At         time.Time `json:"recorded_at"`
	By         string    `json:"by"`
	ApprovedBy string    `json:"approved_by,omitempty"`
	Reason     string    `json:"reason"`
	Fields     []string  `json:"fields,omitempty"` // the erased fields
	Events     int64     `json:"events"`           // number of the bundle's events that it concerns

	kind actMetadata
	bits []byte // one bit for each leaf from FirstLeaf on; 1: deleted
	leaf int64  // the act's own index in the log
}

// actMetadata is the metadata of acts of every kind; see docs/compliance.md.
type actMetadata struct {
	Events     []string `json:"events"`
	Fields     []string `json:"fields"`
	ApprovedBy string   `json:"approved_by"`
	Request    string   `json:"request"`
	FirstLeaf  int64    `json:"first_leaf"`
	Leaves     string   `json:"leaves"` // base64: one bit for each leaf from FirstLeaf on, a byte's lowest bit first

	Act       string `json:"act"` // of a request: the act to be approved
	OfOneUser bool   `json:"of_one_user"`

	Hold    string  `json:"hold"`
	Placed  bool    `json:"placed"`
	Since   *string `json:"since"`
	Until   *string `json:"until"`
	AgentID *string `json:"agent_id"`

	ActionType *string `json:"action_type"`
	KeepDays   *int    `json:"keep_days"`
	Keep       *string `json:"keep"` // in acts older than keep_days: an interval's text, such as "200 days"
	TwoPeople  *bool   `json:"two_people"`
}

// String describes the act in a sentence.
func (a *Act) String() string {
	by := a.By
	if a.ApprovedBy != "" {
		by += ", approved by " + a.ApprovedBy
	}
	did := "deleted under retention"
	if a.Action == ActionErasure {
		did = strings.Join(a.Fields, ", ") + " erased"
	}
	return fmt.Sprintf("%s on %s by %s, for: %s", did, a.At.Format(time.RFC3339), by, a.Reason)
}

// NewAct parses an event that records an act. It fails if the action type is not an act's or the metadata is malformed.
func NewAct(id string, at time.Time, by, action, reason string, metadata []byte) (*Act, error) {
	switch action {
	case ActionErasure, ActionRetention, ActionRule, ActionHold, ActionRequest, ActionErasureDeclined, ActionDeclined:
	default:
		return nil, fmt.Errorf("event %s: %.40q is no act", id, action)
	}
	a := &Act{Event: id, Action: action, At: at, By: by, Reason: reason}
	if a.declines() {
		var of struct {
			Request string `json:"request"` // its events are their number only
		}
		if err := json.Unmarshal(metadata, &of); err != nil {
			return nil, fmt.Errorf("event %s: its metadata: %w", a.Event, err)
		}
		a.kind.Request = of.Request
		return a, nil
	}
	if err := json.Unmarshal(metadata, &a.kind); err != nil {
		return nil, fmt.Errorf("event %s: its metadata: %w", a.Event, err)
	}
	a.Fields, a.ApprovedBy = a.kind.Fields, a.kind.ApprovedBy
	if a.Action == ActionRetention {
		bits, err := base64.StdEncoding.DecodeString(a.kind.Leaves)
		if err != nil {
			return nil, fmt.Errorf("event %s: its leaves: %w", a.Event, err)
		}
		if a.bits = bits; a.kind.FirstLeaf < 0 || len(bits) == 0 || len(bits) > maxDeletedLeaves/8 {
			return nil, fmt.Errorf("event %s: it names no leaves", a.Event)
		}
	}
	return a, nil
}

// maxDeletedLeaves is how many leaves one retention act covers at most.
const maxDeletedLeaves = 1 << 16

// LastLeaf returns the index of the newest leaf whose event the act deleted; -1 for an act that deletes nothing.
func (a *Act) LastLeaf() int64 {
	for i := len(a.bits) - 1; i >= 0; i-- {
		if a.bits[i] != 0 {
			return a.kind.FirstLeaf + int64(i)*8 + int64(bits.Len8(a.bits[i])) - 1
		}
	}
	return -1
}

// binds reports whether the act erases and deletes nothing itself, and only restricts later acts.
func (a *Act) binds() bool { return a.Action != ActionErasure && a.Action != ActionRetention }

func (a *Act) declines() bool { return a.Action == ActionErasureDeclined || a.Action == ActionDeclined }

// readAct parses a record of an act.
func readAct(r *ledger.Record) (*Act, error) {
	text := func(f ledger.Field) string { return string(r.Shown[f-1].Value) }
	for _, f := range []ledger.Field{ledger.UserID, ledger.ActionType, ledger.InputSummary, ledger.Metadata} {
		if !r.Shown[f-1].Open {
			return nil, fmt.Errorf("event %s: an act that does not show its %s", ledger.FormatID(r.ID), f)
		}
	}
	return NewAct(ledger.FormatID(r.ID), r.RecordedAt.Time(), text(ledger.UserID), text(ledger.ActionType),
		text(ledger.InputSummary), r.Shown[ledger.Metadata-1].Value)
}

// maxActs is the limit on a bundle's acts in bytes: an erasure of 1,000 events takes 40 kilobytes.
const maxActs = 64 << 20

// appendAct appends an act in the form that bundles use: index[8] ‖ n[1] ‖ n hashes of its inclusion proof in the
// newest checkpoint ‖ record.
func appendAct(b []byte, index int64, proof []ledger.Hash, r *ledger.Record) []byte {
	b = append(binary.BigEndian.AppendUint64(b, uint64(index)), byte(len(proof)))
	for _, h := range proof {
		b = append(b, h[:]...)
	}
	return r.AppendBinary(b)
}

// readActs reads the bundle's acts and verifies their inclusion proofs.
func (c *bundleCheck) readActs(from *bufio.Reader) error {
	c.erasures, c.gone = map[erasure]*Act{}, map[int64][]*Act{}
	for {
		var head [9]byte
		if _, err := io.ReadFull(from, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: it is cut off", actsFile)
		}
		index, proof := int64(binary.BigEndian.Uint64(head[:])), make([]ledger.Hash, head[8])
		for i := range proof {
			if _, err := io.ReadFull(from, proof[i][:]); err != nil {
				return fmt.Errorf("%s: it is cut off", actsFile)
			}
		}
		r := ledger.Record{TenantID: c.tenant}
		if err := r.Read(from); err != nil {
			return fmt.Errorf("%s: %w", actsFile, err)
		}
		if err := c.last.Includes(index, r.Hash(), proof); err != nil {
			c.problem(ledger.FormatID(r.ID), actsFile, "%v", err)
			continue
		}
		a, err := readAct(&r)
		if err != nil {
			c.problem(ledger.FormatID(r.ID), actsFile, "%v", err)
			continue
		}
		a.leaf = index
		c.acts = append(c.acts, a)
		if a.binds() {
			continue
		}
		if err := c.act(a); err != nil {
			c.problem(a.Event, actsFile, "%v", err)
		}
	}
}

// erasure is one field of one event.
type erasure struct {
	event [16]byte
	field ledger.Field
}

// act notes what a proven act erased or deleted, for checkActs.
func (c *bundleCheck) act(a *Act) error {
	c.Acts = append(c.Acts, a)
	if a.Action == ActionRetention {
		end := a.kind.FirstLeaf + int64(len(a.bits))*8
		for t := a.kind.FirstLeaf / ledger.TileWidth; t*ledger.TileWidth < end; t++ {
			c.gone[t] = append(c.gone[t], a)
		}
		return nil
	}
	for _, name := range a.kind.Fields {
		f, err := ledger.FieldNamed(name)
		if err != nil {
			return err
		}
		for _, text := range a.kind.Events {
			id, err := ledger.ParseID(text)
			if err != nil {
				return err
			}
			if at := (erasure{id, f}); c.erasures[at] == nil { // the first act that names a field erased it
				c.erasures[at] = a
			}
		}
	}
	return nil
}

// deletes reports whether a retention act deleted a leaf's event.
func (a *Act) deletes(index int64) bool {
	i := index - a.kind.FirstLeaf
	return i >= 0 && i/8 < int64(len(a.bits)) && a.bits[i/8]&(1<<(i%8)) != 0
}

// checkActs checks that proven acts account for a leaf's erased fields, or for the deletion of its event.
func (c *bundleCheck) checkActs(r *ledger.Record, index int64) {
	if r.Gone {
		for _, a := range c.gone[index/ledger.TileWidth] {
			if a.deletes(index) {
				a.Events++
				return
			}
		}
		c.problem(ledger.FormatID(r.ID), "", "is said to be deleted, and no act in the log says so")
		return
	}
	var counted [ledger.Fields]*Act
	for f := ledger.AgentID; f <= ledger.Metadata; f++ {
		if !r.Erased.Has(f) {
			continue
		}
		a := c.erasures[erasure{r.ID, f}]
		switch {
		case a == nil:
			c.problem(ledger.FormatID(r.ID), "", "its %s is said to be erased, and no act in the log says so", f)
		case !slices.Contains(counted[:], a):
			a.Events++
			counted[f-1] = a
		}
	}
}
