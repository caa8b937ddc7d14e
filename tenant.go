package konstruct

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/toolrule"
)

// Tenant is one tenant's part of the database; its methods see no other tenant's data.
type Tenant struct {
	k  *Konstruct
	id uuid.UUID
}

// Tenant returns a tenant by its id. A tenant exists as soon as a row names it. The zero UUID is no tenant: every call
// on it fails.
func (k *Konstruct) Tenant(id uuid.UUID) *Tenant { return &Tenant{k, id} }

// LogBatch writes events of any of the tenant's agents in one transaction, or none, and returns their ids in order.
func (t *Tenant) LogBatch(ctx context.Context, events []Event) ([]uuid.UUID, error) {
	return t.k.trail.LogBatch(ctx, t.id, events)
}

// LogReports writes events that several may report: see audit.Trail.LogReports.
func (t *Tenant) LogReports(ctx context.Context, events []Event,
	further func(stored StoredEvent, e Event) (Event, bool)) error {
	return t.k.trail.LogReports(ctx, t.id, events, further)
}

// ErrNoReceipts means that Config.Receipts is nil.
var ErrNoReceipts = errors.New("konstruct: there is no key to sign receipts with: give the notary's " +
	"(KONSTRUCT_NOTARY_KEY_FILE), which its first run makes")

// IntegrateWithin is the time within which a receipt promises that its event is in the log.
const IntegrateWithin = ledger.IntegrateWithin

// Tx runs fn in a transaction of this tenant and commits when fn returns nil. Agent.InTx logs in it, so that an event
// and a change of your own commit together.
func (t *Tenant) Tx(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	return t.k.door.Tx(ctx, t.id, fn)
}

// The parts of a tenant, each with its own methods. They are stateless: get one wherever you need it.
type (
	// Events are the tenant's trail.
	Events struct{ t *Tenant }
	// Escalations are decisions that agents left to people.
	Escalations struct{ t *Tenant }
	// Documents are the documents of the knowledge base.
	Documents struct{ t *Tenant }
	// Collections are named sets of the tenant's documents.
	Collections struct{ t *Tenant }
	// Jobs are the ingest jobs.
	Jobs struct{ t *Tenant }
	// Models are the embedding models that have vectors in the knowledge base.
	Models struct{ t *Tenant }
	// Keys are the credentials of programs. Each method but List takes the principal that calls it, and records an
	// event.
	Keys struct{ t *Tenant }
	// Users are people of the identity provider. Each method but List takes the principal that calls it, and records an
	// event.
	Users struct{ t *Tenant }
)

// Events returns the tenant's events.
func (t *Tenant) Events() Events { return Events{t} }

// Escalations returns the tenant's escalations.
func (t *Tenant) Escalations() Escalations { return Escalations{t} }

// ToolRules returns the policy's rules on the tenant's calls of tools; nil allows all.
func (t *Tenant) ToolRules() *toolrule.Set { return t.k.trail.ToolRules(t.id) }

// Collections returns the tenant's collections.
func (t *Tenant) Collections() Collections { return Collections{t} }

// Documents returns the tenant's documents.
func (t *Tenant) Documents() Documents { return Documents{t} }

// Jobs returns the tenant's ingest jobs.
func (t *Tenant) Jobs() Jobs { return Jobs{t} }

// Models returns the tenant's embedding models.
func (t *Tenant) Models() Models { return Models{t} }

// Keys returns the tenant's API keys.
func (t *Tenant) Keys() Keys { return Keys{t} }

// Users returns the tenant's users.
func (t *Tenant) Users() Users { return Users{t} }
