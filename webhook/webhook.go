// Package webhook tells a tenant's own HTTP endpoints what happened, as https://www.standardwebhooks.com specifies:
// signed messages, attempts over days, and dead letters that can be sent again. Messages are written by the database's
// triggers, in the transactions of what they report (00016_webhooks.sql). It must not know what the events mean, nor
// who may do what.
package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/tenantdb"
)

// Type is the type of a message, as its payload names it.
type Type string

// The types. docs/webhooks.md says when there is a message of each, and what its data is.
const (
	EscalationOpened   Type = "escalation.opened"
	EscalationDue      Type = "escalation.due"
	EscalationAnswered Type = "escalation.answered"
	VerificationFailed Type = "verification.failed"
	NotaryRefused      Type = "notary.refused" // of the operator's tenant alone
	QuotaExceeded      Type = "quota.exceeded"
	IngestFinished     Type = "ingest.finished"
	ExportFinished     Type = "export.finished"

	// AllTypes subscribes to every type, also to those that are added later.
	AllTypes Type = "*"
	// Test is the type of the message that a person sends to try an endpoint. Nothing subscribes to it.
	Test Type = "webhook.test"
)

// Types are those that an endpoint can subscribe to.
var Types = []Type{EscalationOpened, EscalationDue, EscalationAnswered, VerificationFailed, NotaryRefused,
	QuotaExceeded, IngestFinished, ExportFinished}

// Limits on what a tenant can have.
const (
	MaxEndpoints   = 20
	MaxURL         = 2000 // bytes
	MaxDescription = 200  // characters
	MaxSecrets     = 5    // that sign for one endpoint, during overlaps
	MaxList        = 1000
	// MaxResend is how many dead letters one call sends again.
	MaxResend = 10_000
)

// How long things are kept, from when they ended.
const (
	DeliveredTTL = 7 * 24 * time.Hour
	DeadTTL      = 30 * 24 * time.Hour
	// maxAttempts is how many attempts of one delivery are kept: the last ones.
	maxAttempts = 50
)

// Errors.
var (
	ErrNotFound = errors.New("there is no such webhook or message of this tenant")
	// ErrDisabled means that nothing is sent to an endpoint until a person enables it.
	ErrDisabled = errors.New("the webhook is disabled: enable it first")
	// ErrQueued means that a delivery is not over, and need not be sent again.
	ErrQueued = errors.New("the message is queued already, or is sent right now")
)

// FieldError says what of a request is not acceptable, and why.
type FieldError struct{ Field, Reason string }

// Error implements error.
func (e *FieldError) Error() string { return e.Field + " " + e.Reason }

// checkTypes returns an error for types that an endpoint can't subscribe to.
func checkTypes(types []Type) error {
	if len(types) == 0 {
		return &FieldError{"types", "is empty: name at least one, or * for all"}
	}
	for i, t := range types {
		switch {
		case slices.Contains(types[:i], t):
			return &FieldError{"types", fmt.Sprintf("has %.40s twice", t)}
		case t == AllTypes && len(types) > 1:
			return &FieldError{"types", "has * beside others: it is every type"}
		case t != AllTypes && !slices.Contains(Types, t):
			return &FieldError{"types", fmt.Sprintf("has %.40q, which is none: they are %s, or * for all", string(t),
				JoinTypes(Types, ", "))}
		}
	}
	return nil
}

// JoinTypes names types in one text.
func JoinTypes(types []Type, between string) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, between)
}

// messagePrefix begins the ids of messages in webhook-id headers and wherever people meet them.
const messagePrefix = "msg_"

// MessageID is a message's webhook-id: msg_ and 32 hexadecimal digits. Receivers recognize a repeated message by it.
type MessageID uuid.UUID

// String returns the webhook-id.
func (m MessageID) String() string {
	return messagePrefix + strings.ReplaceAll(uuid.UUID(m).String(), "-", "")
}

// MarshalText implements encoding.TextMarshaler.
func (m MessageID) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MessageID) UnmarshalText(text []byte) error {
	digits, is := strings.CutPrefix(string(text), messagePrefix)
	id, err := uuid.Parse(digits)
	if !is || err != nil || len(digits) != 32 || MessageID(id).String() != string(text) {
		return fmt.Errorf("%.60q is no message id: it is msg_ and 32 hexadecimal digits", text)
	}
	*m = MessageID(id)
	return nil
}

// Endpoints are the endpoints of all tenants. It is safe for concurrent use.
type Endpoints struct {
	door    *tenantdb.Door
	sealer  *sealer
	targets *targets
}

// NewEndpoints returns those of a database. secret encrypts the signing secrets, and is the same in every process.
// allow are the operator's private networks that messages may be sent to; others are not connected to.
func NewEndpoints(door *tenantdb.Door, secret []byte, allow []netip.Prefix) (*Endpoints, error) {
	s, err := newSealer(secret)
	if err != nil {
		return nil, err
	}
	return &Endpoints{door: door, sealer: s, targets: newTargets(nil, allow)}, nil
}

// Close ends idle connections.
func (e *Endpoints) Close() { e.targets.http.CloseIdleConnections() }
