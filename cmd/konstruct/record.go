package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/tenantdb"
)

// errNotRecorded says that what operators do can't be recorded.
var errNotRecorded = errors.New("KONSTRUCT_DATABASE_URL is not set")

// recordOperation writes what an operator did with a tenant's data, or with the notary, as an event: of that tenant, or
// of the operator's own trail.
func (a *app) recordOperation(ctx context.Context, url string, tenant uuid.UUID, action string,
	what map[string]any) error {
	if url == "" {
		return errNotRecorded
	}
	door, err := tenantdb.Open(ctx, url)
	if err != nil {
		return err
	}
	defer door.Close()
	raw, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = audit.Log(ctx, door, tenant,
		audit.Event{Action: action, UserID: operatorName(), Metadata: raw}.OfService())
	return err
}

// requireRecord is record for what must not be done unrecorded.
func (a *app) requireRecord(ctx context.Context, url string, tenant uuid.UUID, action string,
	what map[string]any) error {
	if err := a.recordOperation(ctx, url, tenant, action, what); err != nil {
		return fmt.Errorf("it can't be recorded in the trail, so it is not done: %w", err)
	}
	return nil
}

// noteRecord is record for reads: a failure to record one is printed, and no error.
func (a *app) noteRecord(ctx context.Context, url string, action string, what map[string]any) {
	if err := a.recordOperation(ctx, url, audit.Operator, action, what); err != nil {
		fmt.Fprintf(a.err, "konstruct: not recorded in the operator's own trail: %v\n", err)
	}
}

// operatorName is who sits at the terminal, as the machine knows them.
func operatorName() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
