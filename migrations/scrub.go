package migrations

import (
	"context"
	"fmt"
)

type scrubStep struct{ what, sql string }

// scrubSQL rewrites the tables whose pages may still contain erased text. Plain VACUUM frees dead rows, but their bytes
// stay in the pages until they are overwritten. The planner's statistics keep column values. A recycled WAL segment
// keeps its old end.
var scrubSQL = []scrubStep{
	{"the events and their indexes", `VACUUM (FULL, ANALYZE) public.audit_events`},
	{"the seals and their indexes", `VACUUM (FULL, ANALYZE) public.audit_seals`},
	{"requests for erasure", `VACUUM (FULL, ANALYZE) public.audit_requests`},
	{"figures of days", `VACUUM (FULL, ANALYZE) public.audit_days`},
	{"holds", `VACUUM (FULL, ANALYZE) public.audit_holds`},
}

// Scrub rewrites the tables from which something was erased, so that none of their pages contains it any more. It locks
// each table meanwhile, and needs its size on disk once more. What this role may not run runs as a superuser; without a
// superuser's URL it returns those statements. WAL archives and backups remain the operator's task. say, if not nil, is
// called with the name of each step before it runs.
func (s *Schema) Scrub(ctx context.Context, superuserURL string, say func(string)) (left []string, err error) {
	steps := scrubSQL
	var owner, checkpoints bool
	if err := s.db.QueryRowContext(ctx,
		`SELECT pg_has_role(datdba, 'USAGE'),
		pg_has_role('pg_checkpoint', 'USAGE') AND has_function_privilege('pg_switch_wal()', 'EXECUTE')
	  FROM pg_database WHERE datname = current_database()`).Scan(&owner, &checkpoints); err != nil {
		return nil, fmt.Errorf("scrub: %w", err)
	}
	for _, more := range []struct {
		may       bool
		what, sql string
	}{
		{owner, "statistics", `VACUUM FULL pg_catalog.pg_statistic`},
		{checkpoints, "the server's log", `SELECT pg_switch_wal()`},
		{checkpoints, "a checkpoint", `CHECKPOINT`},
	} {
		if more.may {
			steps = append(steps[:len(steps):len(steps)], scrubStep{more.what, more.sql})
		} else {
			left = append(left, more.sql)
		}
	}
	for _, step := range steps {
		if say != nil {
			say(step.what)
		}
		if _, err := s.db.ExecContext(ctx, step.sql); err != nil {
			return nil, fmt.Errorf("scrub %s: %w", step.what, err)
		}
	}
	if superuserURL == "" || len(left) == 0 {
		return left, nil
	}
	super, err := Open(superuserURL)
	if err != nil {
		return nil, fmt.Errorf("scrub as the superuser: %w", err)
	}
	defer super.Close()
	for _, sql := range left {
		if _, err := super.db.ExecContext(ctx, sql); err != nil {
			return nil, fmt.Errorf("scrub as the superuser: %s: %w", sql, err)
		}
	}
	return nil, nil
}
