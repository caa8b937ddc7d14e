package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/redact"
	"github.com/konstruct/konstruct/toolrule"
)

// Limits on what a policy may hold.
const (
	MaxPolicy            = 1 << 20 // bytes of a policy as JSON
	MaxPolicyRules       = 100     // redaction rules for one tenant
	defaultContinueAfter = 5 * time.Second
)

// Policy is the operator's policy for tenants' trails. The zero Policy redacts nothing, and calls fail when the trail
// can't be written.
type Policy struct {
	byDefault rules
	tenants   map[uuid.UUID]rules
}

// rules are one tenant's compiled policy.
type rules struct {
	continues bool
	wait      time.Duration
	redact    *redact.Redactor
	tools     *toolrule.Set
	key       []byte // of redaction
	source    TenantPolicy
}

// What a call does when the trail can't be written.
const (
	Fail     = "fail"  // it fails
	Continue = "go_on" // it succeeds, and the gap is recorded
)

// What happens to spans and log records that no rule of the mapping knows.
const (
	DropOther = "drop" // they are counted
	KeepOther = "keep" // they are events of their own type
)

// CapturePolicy is the part of a tenant's policy for what OpenTelemetry SDKs send, in JSON.
type CapturePolicy struct {
	// Other says what happens to a span or log record that is neither of a model, a tool nor an agent: DropOther, the
	// default, or KeepOther.
	Other string `json:"other,omitempty"`
}

// TenantPolicy is one tenant's policy in JSON.
type TenantPolicy struct {
	// WhenUnwritable says what an agent's call does when the trail can't be written: Fail (the default), or Continue:
	// the call succeeds, and once the trail can be written again a gap is recorded with its times and the number of
	// events.
	WhenUnwritable string `json:"when_unwritable,omitempty"`
	// Wait is how long a call waits for the trail at most, in Go's duration syntax. Empty means until its context ends
	// with Fail, and five seconds with Continue.
	Wait string `json:"wait,omitempty"`
	// Redact are the rules that redact values in events before they are stored anywhere.
	Redact []redact.Rule `json:"redact,omitempty"`
	// Capture says what of OpenTelemetry's records becomes an event.
	Capture *CapturePolicy `json:"capture,omitempty"`
	// Tools are the rules on agents' calls of tools, which the MCP proxy and the hook apply.
	Tools []toolrule.Rule `json:"tools,omitempty"`
	// Models says which models the tenant may call through the gateway, and how much a day.
	Models *ModelPolicy `json:"models,omitempty"`
}

// ParsePolicy parses a policy: a JSON object with "default", for every tenant not named, and "tenants", by UUID. A
// named tenant has only its own rules. key hashes redacted values, so that equal values stay matchable. A policy that
// redacts needs a key of at least redact.MinKey bytes, the same in every process. An error names the place in the
// policy.
func ParsePolicy(raw, key []byte) (*Policy, error) {
	if len(raw) > MaxPolicy {
		return nil, fmt.Errorf("policy: %d bytes long, the limit is %d", len(raw), MaxPolicy)
	}
	var file struct {
		Default TenantPolicy               `json:"default"`
		Tenants map[uuid.UUID]TenantPolicy `json:"tenants"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("policy: there is data after the JSON object")
	}
	p := &Policy{tenants: map[uuid.UUID]rules{}}
	var err error
	if p.byDefault, err = file.Default.compile("default", key, uuid.Nil); err != nil {
		return nil, err
	}
	for id, t := range file.Tenants {
		if p.tenants[id], err = t.compile("tenants."+id.String(), key, id); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (t TenantPolicy) compile(at string, key []byte, tenant uuid.UUID) (r rules, err error) {
	r.source = t
	switch t.WhenUnwritable {
	case "", Fail:
	case Continue:
		r.continues, r.wait = true, defaultContinueAfter
	default:
		return r, fmt.Errorf(`policy: %s.when_unwritable: %.40q is neither "fail" nor "go_on"`, at, t.WhenUnwritable)
	}
	if c := t.Capture; c != nil && c.Other != "" && c.Other != DropOther && c.Other != KeepOther {
		return r, fmt.Errorf(`policy: %s.capture.other: %.40q is neither "drop" nor "keep"`, at, c.Other)
	}
	if t.Wait != "" {
		if r.wait, err = time.ParseDuration(t.Wait); err != nil || r.wait < time.Millisecond || r.wait > time.Hour {
			return r, fmt.Errorf(`policy: %s.wait: %.40q is no duration between "1ms" and "1h"`, at, t.Wait)
		}
	}
	if err := t.Models.check(at + ".models"); err != nil {
		return r, err
	}
	if err := t.compileTools(&r, at, key); err != nil || len(t.Redact) == 0 {
		return r, err
	}
	if len(t.Redact) > MaxPolicyRules {
		return r, fmt.Errorf("policy: %s.redact: %d rules, the limit is %d", at, len(t.Redact), MaxPolicyRules)
	}
	r.redact, err = redact.New(at+".redact", t.Redact, key, checkMetadata)
	return r, err
}

// tenantRules returns the tenant's rules.
func (p *Policy) tenantRules(tenant uuid.UUID) rules {
	if p == nil {
		return rules{}
	}
	if r, ok := p.tenants[tenant]; ok {
		return r
	}
	return p.byDefault
}

// Continues reports whether some tenant's calls go on when the trail can't be written.
func (p *Policy) Continues() bool {
	if p == nil {
		return false
	}
	for _, r := range p.tenants {
		if r.continues {
			return true
		}
	}
	return p.byDefault.continues
}

// AlwaysFail returns a copy of the policy in which all calls fail when the trail can't be written.
func (p *Policy) AlwaysFail() *Policy {
	if p == nil {
		return nil
	}
	closed := &Policy{byDefault: p.byDefault, tenants: maps.Clone(p.tenants)}
	closed.byDefault.continues = false
	for id, r := range closed.tenants {
		r.continues = false
		closed.tenants[id] = r
	}
	return closed
}

// Default returns the policy of tenants that are not named.
func (p *Policy) Default() TenantPolicy { return p.tenantRules(uuid.Nil).source }

// Tenants returns the named tenants, sorted by id.
func (p *Policy) Tenants() []uuid.UUID {
	if p == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(p.tenants), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}

// Tenant returns a tenant's policy.
func (p *Policy) Tenant(id uuid.UUID) TenantPolicy { return p.tenantRules(id).source }

// KeepsOther reports whether a tenant keeps spans and log records that no rule knows.
func (p *Policy) KeepsOther(tenant uuid.UUID) bool {
	c := p.tenantRules(tenant).source.Capture
	return c != nil && c.Other == KeepOther
}

// Redact returns the event as it would be stored. A mark, "[redacted:RULE:HASH]", replaces each value that the tenant's
// rules name, and the metadata's konstruct.redactions lists rule, field and count. The hash is keyed per tenant: equal
// values of one tenant have equal marks.
func (p *Policy) Redact(tenant uuid.UUID, e Event) (Event, error) {
	return p.tenantRules(tenant).redactEvent(tenant, e)
}

// redactOnce applies the rules to an event without reserved names, unless that was done: what redaction leaves is not
// redacted again.
func (r rules) redactOnce(tenant uuid.UUID, e Event) (Event, error) {
	if err := e.checkReserved(); err != nil || e.redacted {
		return e, err
	}
	e, err := r.redactEvent(tenant, e)
	e.service, e.redacted = true, true // konstruct.redactions is a reserved name
	return e, err
}

// redactEvent returns the event with the rules applied.
func (r rules) redactEvent(tenant uuid.UUID, e Event) (Event, error) {
	by, err := r.redactor(e)
	if by == nil || err != nil {
		return e, err
	}
	f, err := by.Apply(tenant, redact.Fields{UserID: e.UserID, Input: e.Input, Output: e.Output, Metadata: e.Metadata})
	if bad := (*redact.Error)(nil); errors.As(err, &bad) {
		return e, &FieldError{"metadata", bad.Reason}
	}
	e.UserID, e.Input, e.Output, e.Metadata, e.encoded = f.UserID, f.Input, f.Output, f.Metadata, false
	return e, err
}
