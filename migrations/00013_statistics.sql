-- Removes text columns from the planner's statistics, which cover all tenants together: with EXPLAIN's estimates, a
-- tenant with SQL access could confirm guesses of another tenant's common values, and find values by bisection.
--
-- A later migration that adds a text or bytea column to a tenant's table must do the same for it.
-- +goose Up
-- +goose StatementBegin
DO $statistics$
DECLARE c record;
BEGIN
  -- The columns that keep statistics are needed for plans. They have a fixed vocabulary or models' names, except those
  -- of audit_events by which events are filtered. PostgreSQL 18 can clear existing statistics; on earlier versions a
  -- superuser must delete them.
  FOR c IN
    SELECT t.oid::regclass AS name, t.relname::text, a.attname::text
      FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE t.relnamespace = 'public'::regnamespace AND t.relkind = 'r'
       AND a.atttypid IN ('text'::regtype, 'bytea'::regtype)
       AND EXISTS (SELECT FROM pg_attribute i
                    WHERE i.attrelid = t.oid AND i.attname = 'tenant_id' AND NOT i.attisdropped)
       AND t.relname <> 'river_job' AND (t.relname, a.attname) NOT IN (VALUES
         ('audit_events', 'action_type'), ('audit_events', 'user_id'), ('kb_jobs', 'state'), ('kb_sources', 'language'),
         ('kb_points', 'language'), ('kb_models', 'model'), ('kb_vectors', 'model'), ('kb_tiers', 'model'),
         ('artifact_files', 'kind'), ('artifact_files', 'state'), ('access_users', 'role'))
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', c.name, c.attname);
    IF to_regproc('pg_catalog.pg_clear_attribute_stats') IS NOT NULL THEN
      EXECUTE 'SELECT pg_catalog.pg_clear_attribute_stats(''public'', $1, $2, false)' USING c.relname, c.attname;
    END IF;
  END LOOP;
END $statistics$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DO $statistics$
DECLARE c record;
BEGIN
  FOR c IN SELECT t.oid::regclass AS name, a.attname FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid
            WHERE t.relnamespace = 'public'::regnamespace AND t.relkind = 'r' AND a.attstattarget = 0
              AND NOT a.attisdropped LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS -1', c.name, c.attname);
  END LOOP;
END $statistics$;
-- +goose StatementEnd
