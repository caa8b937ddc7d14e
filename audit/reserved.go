package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// reserved are the action types that the service itself writes: who may only log events can't say in its name that a
// key was made or a tenant switched. An agent's own retrievals, from elsewhere, it may log.
var reserved = map[string]bool{
	ActionRemoval: true, ActionModel: true, ActionGap: true, ActionAcknowledged: true, ActionResolved: true,
	ActionEvidence: true, ActionExport: true, ActionProof: true, ActionVerify: true, ActionResume: true,
	ActionRotate: true, ActionGuard: true,
	ActionKeyCreated: true, ActionKeyRotated: true, ActionKeyLabels: true, ActionKeyRevoked: true,
	ActionUserAdded: true, ActionUserRemoved: true,
	ActionLimitsSet: true, ActionImpersonation: true, ActionTenantCreated: true, ActionComplianceRequest: true,
}

// reservedPrefix begins the names in metadata that only the service writes: what it showed, and of which document.
const reservedPrefix = "konstruct."

// escalationTo is the one of them that is its caller's to say: to whom an escalation goes.
const escalationTo = "konstruct.escalation.to"

// OfService marks an event as the service's own: its action type and metadata may be reserved ones. Nothing that a
// stranger says may be in such an event but as a value.
func (e Event) OfService() Event {
	e.service = true
	return e
}

// checkReserved refuses what only the service writes.
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

// reservedName finds a name in JSON, at any depth, that only the service writes.
func reservedName(raw []byte) (string, error) {
	if !bytes.Contains(raw, []byte(reservedPrefix)) && bytes.IndexByte(raw, '\\') < 0 {
		return "", nil // most have none, and no letter is written as an escape
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	type level struct{ object, value bool } // value: a name was read, and its value comes
	var open []level
	for {
		t, err := d.Token()
		if err != nil {
			return "", nil // whether it is JSON is asked elsewhere
		}
		top := len(open) - 1
		if name, is := t.(string); is && top >= 0 && open[top].object && !open[top].value {
			if strings.HasPrefix(name, reservedPrefix) && name != escalationTo {
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
