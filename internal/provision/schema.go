package provision

import (
	"context"
	"fmt"

	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

// Pending returns how many migrations a database lacks, as its owner.
func Pending(ctx context.Context, ownerURL string) (n int, err error) {
	s, err := migrations.Open(ownerURL)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	steps, err := s.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, step := range steps {
		if step.Applied.IsZero() {
			n++
		}
	}
	return n, nil
}

// EnsureGuard installs the guard against unnoticed DDL, if it is missing or of another version. Its state is read as
// konstruct_app, because the catalog is compared as that role.
func (s *Server) EnsureGuard(ctx context.Context, appURL string) (Step, error) {
	step := Step{Name: "guard against DDL", State: Exists, Detail: "as this version installs it"}
	door, err := tenantdb.Open(ctx, appURL)
	if err != nil {
		return step, fmt.Errorf("open the database as konstruct_app: %w", err)
	}
	defer door.Close()
	catalog, err := door.Catalog(ctx)
	if err != nil {
		return step, err
	}
	if catalog.GuardInstalled() {
		return step, nil
	}
	err = migrations.Guard(ctx, WithDatabase(s.url, s.Target.Database))
	if denied(err) {
		return refused(step.Name, err, s.Target.Database,
			"-- konstruct migrate guard --print-sql prints the statements"), nil
	}
	step.State, step.Detail = Created, "DDL on the audit trail is refused"
	return step, err
}
