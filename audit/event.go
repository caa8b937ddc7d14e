// Package audit is the trail: it checks, logs, lists and searches events, and compares each write with its seal before
// it is acknowledged. It knows events, the policy and the spool; it must not know kb or search (who searches records
// what was returned), nor verify, which reads everything again.
package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// Action types: the first three are the seed's, the others our own.
const (
	ActionLLMCall    = "llm_call"
	ActionToolCall   = "tool_invocation"
	ActionEscalation = "escalation"
	ActionRetrieval  = "retrieval"
	ActionRemoval    = "document_removed"
	ActionModel      = "search_model_changed"
	ActionCollection = "collection_changed"
	// ActionModelRefused says that the gateway refused calls of models: by the tenant's policy, or without an upstream.
	ActionModelRefused = "model_call_refused"
)

// Limits on what one event may hold.
const (
	MaxSummary       = 64 << 10  // bytes of a summary; a longer one is truncated, with a mark
	MaxName          = 1 << 10   // bytes of a user id or action type
	MaxMetadata      = 256 << 10 // bytes of metadata as JSON
	MaxMetadataDepth = 32
	// MaxDerived is how many bytes of metadata as JSON an event may have that joins or wraps others: PostgreSQL writes
	// spaces between items, and numbers without exponents.
	MaxDerived = 4 * MaxMetadata
)

// Operator is the tenant whose trail has the operators' own actions: verifications, resumptions, key rotations. It is a
// tenant like any other. What operators do with a tenant's data is logged on that tenant's trail.
var Operator = uuid.MustParse("6b6f6e73-7472-8563-8000-000000000001")

// Action types of what operators do.
const (
	ActionEvidence = "evidence_export"
	ActionExport   = "trail_export"
	ActionProof    = "proof_export"
	ActionVerify   = "trail_verification"
	ActionResume   = "notary_resume"
	ActionRotate   = "notary_key_rotation"
	ActionGuard    = "guard_installed" // tells doctor that the guard was once installed

	ActionKeyCreated        = "access_key_made"
	ActionKeyRotated        = "access_key_rotated"
	ActionKeyLabels         = "access_key_granted" // its labels were changed
	ActionKeyRevoked        = "access_key_revoked"
	ActionUserAdded         = "access_user_admitted"
	ActionUserRemoved       = "access_user_dismissed"
	ActionLimitsSet         = "access_limits_set"
	ActionImpersonation     = "access_tenant_switched"
	ActionTenantCreated     = "tenant_begun"
	ActionComplianceRequest = "law_request"

	ActionWebhookCreated = "webhook_created"
	ActionWebhookUpdated = "webhook_updated" // also when it was enabled or disabled, by a person or by the service
	ActionWebhookRotated = "webhook_secret_rotated"
	ActionWebhookDeleted = "webhook_deleted"
	ActionWebhookTested  = "webhook_tested"
	ActionWebhookResent  = "webhook_resent"

	ActionNotaryRefused = "notary_refused" // the notary signs nothing until a person decides
)

// Event is one action of an agent, as the caller logs it.
type Event struct {
	// ID makes a retry idempotent: the same id with the same content is logged once. If zero, a UUIDv7 is drawn.
	ID      uuid.UUID
	AgentID uuid.UUID // zero: no agent
	UserID  string    // empty: no user
	Action  string    // one of the constants above, or a name of your own
	Input   string    // summary of the input; empty: NULL
	Output  string    // summary of the output; empty: NULL
	// Latency is stored in whole milliseconds. Zero means it was not measured.
	Latency time.Duration
	// Metadata is a JSON object; OpenTelemetry GenAI names are the convention. Nil is {}.
	Metadata json.RawMessage
	// At is when the action happened, truncated to a microsecond. If zero, the database sets its current time. The
	// recorded time is always the database's.
	At time.Time
	// stamped is true if the spool set At. Then a retry may have another time and is still the same event.
	stamped bool
	// service is true for an event of the service's own; see OfService.
	service bool
	// encoded is true for metadata of an encoder of ours; see Encoded.
	encoded bool
	// derived is true for an event that is made of checked ones; see Derived.
	derived bool
	// redacted is true for an event to which the tenant's rules were applied.
	redacted bool
}

// complianceActions are the action types that only the compliance functions may write. The database enforces it too.
var complianceActions = map[string]bool{"erasure": true, "erasure_declined": true, "legal_hold": true,
	"retention": true, "retention_rule": true,
	"compliance_request": true, "compliance_declined": true}

// FieldError says which field of an event is invalid, and why.
type FieldError struct {
	Field  string
	Reason string
}

// Error implements error.
func (e *FieldError) Error() string { return "audit: " + e.Field + ": " + e.Reason }

// check returns the event as it will be stored, or an error for the first invalid field.
func (e Event) check() (Event, error) {
	if e.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return e, fmt.Errorf("audit: draw an event id: %w", err)
		}
		e.ID = id
	}
	if e.Action == "" {
		return e, &FieldError{"action_type", "is empty: say what the agent did, for example " + ActionLLMCall}
	}
	if complianceActions[e.Action] {
		return e, &FieldError{"action_type",
			e.Action + " records a compliance act, which konstruct_compliance alone performs (docs/compliance.md)"}
	}
	if err := e.checkReserved(); err != nil {
		return e, err
	}
	for _, f := range []struct {
		name, value string
		limit       int
	}{{"user_id", e.UserID, MaxName}, {"action_type", e.Action, MaxName}, {"input_summary", e.Input, 0},
		{"output_summary", e.Output, 0}} {
		if err := checkText(f.name, f.value, f.limit); err != nil {
			return e, err
		}
	}
	e.Input, e.Output = pgtext.Cut(e.Input, MaxSummary), pgtext.Cut(e.Output, MaxSummary)
	if e.Latency < 0 || e.Latency.Milliseconds() > math.MaxInt32 {
		return e, &FieldError{"latency_ms", fmt.Sprintf("%v is not between 0 and %d ms", e.Latency, math.MaxInt32)}
	}
	if !e.At.IsZero() {
		e.At = e.At.UTC().Truncate(time.Microsecond)
		if y := e.At.Year(); y < 1 || y > 9999 || e.At.IsZero() { // zero again: it would become the current time
			return e, &FieldError{"created_at",
				"it must be after 0001-01-01T00:00:00Z and before the year 10000, in UTC"}
		}
	}
	if e.Metadata == nil {
		e.Metadata = json.RawMessage("{}")
	}
	if err := e.checkDue(); err != nil {
		return e, err
	}
	if n := len(e.Metadata); e.derived && n <= MaxDerived || e.encoded && n <= MaxMetadata {
		return e, nil
	}
	return e, checkMetadata(e.Metadata)
}

// checkDue returns an error for an escalation whose due time is none: nobody would be told when it passes. JSON that
// can't be read is refused elsewhere.
func (e *Event) checkDue() error {
	if e.Action != ActionEscalation || !bytes.Contains(e.Metadata, []byte(escalationDue)) {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(e.Metadata, &m) != nil || m[escalationDue] == nil {
		return nil
	}
	var due time.Time
	if err := json.Unmarshal(m[escalationDue], &due); err != nil || due.IsZero() {
		return &FieldError{"metadata." + escalationDue,
			fmt.Sprintf("%.60s is no time: write it as \"2026-11-30T17:00:00Z\"", m[escalationDue])}
	}
	return nil
}

func checkText(field, s string, limit int) error {
	if !utf8.ValidString(s) {
		return &FieldError{field, "is not valid UTF-8"}
	}
	if i := strings.IndexByte(s, 0); i >= 0 {
		return &FieldError{field, fmt.Sprintf("holds a NUL at byte %d, which PostgreSQL's text can't", i)}
	}
	if limit > 0 && len(s) > limit {
		return &FieldError{field, fmt.Sprintf("is %d bytes long, the limit is %d", len(s), limit)}
	}
	return nil
}

// checkMetadata checks that metadata is a JSON object within its limits.
func checkMetadata(raw json.RawMessage) error {
	if len(raw) > MaxMetadata {
		return &FieldError{"metadata", fmt.Sprintf("is %d bytes long, the limit is %d", len(raw), MaxMetadata)}
	}
	if !utf8.Valid(raw) {
		return &FieldError{"metadata", "is not valid UTF-8"}
	}
	if !json.Valid(raw) {
		return &FieldError{"metadata", "is not JSON: " + json.Unmarshal(raw, new(any)).Error()}
	}
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); trimmed[0] != '{' {
		return &FieldError{"metadata", "is not a JSON object"}
	}
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return &FieldError{"metadata", err.Error()}
	}
	if at, what := strictjson.CheckStorable(raw); what != "" {
		return &FieldError{"metadata" + at, what}
	}
	return checkDepth(raw)
}

// checkDepth checks the nesting of valid JSON.
func checkDepth(raw []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\': // only within quotes
			i++
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxMetadataDepth {
				return &FieldError{"metadata", fmt.Sprintf("is nested deeper than %d", MaxMetadataDepth)}
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
