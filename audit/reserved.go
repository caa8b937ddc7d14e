package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// reserved are the action types that only the service writes, so that a caller that may only log events can't forge a
// key's creation or a switch of tenants. Retrievals are not reserved: an agent may log its own.
var reserved = map[string]bool{
	ActionRemoval: true, ActionModel: true, ActionModelRefused: true, ActionCollection: true,
	ActionGap: true, ActionAcknowledged: true, ActionResolved: true,
	ActionEvidence: true, ActionExport: true, ActionProof: true, ActionVerify: true, ActionResume: true,
	ActionRotate: true, ActionGuard: true,
	ActionKeyCreated: true, ActionKeyRotated: true, ActionKeyLabels: true, ActionKeyRevoked: true,
	ActionUserAdded: true, ActionUserRemoved: true,
	ActionLimitsSet: true, ActionImpersonation: true, ActionTenantCreated: true, ActionComplianceRequest: true,
	ActionWebhookCreated: true, ActionWebhookUpdated: true, ActionWebhookRotated: true, ActionWebhookDeleted: true,
	ActionWebhookTested: true, ActionWebhookResent: true, ActionNotaryRefused: true,
}

// reservedPrefix is the prefix of metadata names that only the service writes, such as the passages that a retrieval
// returned.
const reservedPrefix = "konstruct."

// The reserved names that a caller may set: the recipient of an escalation, and when it needs an answer.
const (
	escalationTo  = "konstruct.escalation.to"
	escalationDue = "konstruct.escalation.due"
)

// OfService marks an event as the service's own: its action type and metadata names may be reserved ones. Input from
// outside may appear in such an event only as a value.
func (e Event) OfService() Event {
	e.service = true
	return e
}

// Encoded marks an event whose metadata an encoder wrote that can't write what is refused: a JSON object in UTF-8
// without NUL, with each name once, nested no deeper than MaxMetadataDepth. It is not read again, which was a fifth of
// the time of a batch. What redaction changes is checked all the same.
func (e Event) Encoded() Event {
	e.encoded = true
	return e
}

// Derived marks an event whose metadata joins or wraps that of events that were checked: it may have MaxDerived bytes,
// so that nothing is left out that was stored already.
func (e Event) Derived() Event {
	e.derived = true
	return e
}

// checkReserved returns an error if a caller's event uses a reserved action type or name.
func (e *Event) checkReserved() error {
	if e.service {
		return nil
	}
	if reserved[e.Action] {
		return &FieldError{"action_type", e.Action + " is reserved: the service itself writes such events"}
	}
	name, err := reservedName(e.Metadata)
	if err != nil || name == "" {
		return err
	}
	return &FieldError{"metadata", fmt.Sprintf("%.80q is reserved: names that begin with %q are the service's own",
		name, reservedPrefix)}
}

// reservedName returns a reserved name in JSON, at any depth, or "".
func reservedName(raw []byte) (string, error) {
	if !bytes.Contains(raw, []byte(reservedPrefix)) && bytes.IndexByte(raw, '\\') < 0 {
		return "", nil // the common case: no such name, and no escape that could hide one
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	type level struct{ object, value bool } // value: a name was read, its value is next
	var open []level
	for {
		t, err := d.Token()
		if err != nil {
			return "", nil // end of input; checkMetadata reports invalid JSON
		}
		top := len(open) - 1
		if name, is := t.(string); is && top >= 0 && open[top].object && !open[top].value {
			if strings.HasPrefix(name, reservedPrefix) && name != escalationTo && name != escalationDue {
				return name, nil
			}
			open[top].value = true
			continue
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			open = append(open, level{object: t == json.Delim('{')})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
			top--
		}
		if top >= 0 {
			open[top].value = false
		}
	}
}
