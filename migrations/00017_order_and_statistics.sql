-- The order in which documents were uploaded and deleted. What was uploaded before its source was deleted, or before
-- something newer of that source was stored, is not stored when its turn comes. Each takes a number; no clock decides.
--
-- And texts are left out of the planner's statistics, which are of all tenants together: by EXPLAIN's estimates,
-- whoever speaks SQL as one tenant could confirm guesses of another's common values and find values by bisection.
-- +goose Up
CREATE SEQUENCE public.kb_seq;
REVOKE ALL ON SEQUENCE public.kb_seq FROM PUBLIC;
GRANT USAGE ON SEQUENCE public.kb_seq TO konstruct_app;
COMMENT ON SEQUENCE public.kb_seq IS 'the order of uploads and deletions, of all tenants';

ALTER TABLE public.kb_sources ADD COLUMN seq bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN public.kb_sources.seq IS 'of the newest upload that was stored, or found to be stored already';
ALTER TABLE public.kb_jobs ADD COLUMN seq bigint NOT NULL DEFAULT nextval('public.kb_seq');
COMMENT ON COLUMN public.kb_jobs.seq IS 'of its upload; what an archive or a list holds has that of the archive or list';

CREATE TABLE public.kb_tombstones (
  tenant_id     uuid   NOT NULL,
  source_sha256 bytea  NOT NULL CHECK (octet_length(source_sha256) = 32),
  seq           bigint NOT NULL,
  PRIMARY KEY (tenant_id, source_sha256)
);
COMMENT ON TABLE public.kb_tombstones IS
  'sources that were deleted, and when: nothing older of them is stored. A row goes when something newer is';

-- +goose StatementBegin
-- Keeps everything that was uploaded so far from being stored under a source: jobs that are queued or running end
-- here, and whatever else is in progress finds the tombstone.
CREATE FUNCTION public.kb_bury(tenant uuid, source text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $bury$
DECLARE now_seq bigint := nextval('public.kb_seq');
BEGIN
  INSERT INTO public.kb_tombstones AS t (tenant_id, source_sha256, seq)
  VALUES (tenant, sha256(convert_to(source, 'UTF8')), now_seq)
  ON CONFLICT (tenant_id, source_sha256) DO UPDATE SET seq = greatest(t.seq, EXCLUDED.seq);
  WITH ended AS (
    UPDATE public.kb_jobs j
       SET state = 'cancelled', finished_at = now(), reason = 'its document was deleted after it was uploaded'
     WHERE j.tenant_id = tenant AND j.source = kb_bury.source AND j.state IN ('waiting', 'running') AND j.seq < now_seq
    RETURNING j.id)
  DELETE FROM public.kb_uploads u USING ended e WHERE u.tenant_id = tenant AND u.job_id = e.id;
END $bury$;

-- Whoever deletes a document buries its source. As in kb_read_passages, the tenant is set where a superuser deletes
-- with none.
CREATE FUNCTION public.kb_source_deleted() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $gone$
DECLARE gone record; before text := coalesce(current_setting('app.current_tenant', TRUE), '');
BEGIN
  FOR gone IN SELECT o.tenant_id, o.source FROM old_sources o ORDER BY 1, 2 LOOP
    IF gone.tenant_id::text <> before THEN
      PERFORM set_config('app.current_tenant', gone.tenant_id::text, TRUE);
    END IF;
    PERFORM public.kb_bury(gone.tenant_id, gone.source);
    IF gone.tenant_id::text <> before THEN PERFORM set_config('app.current_tenant', before, TRUE); END IF;
  END LOOP;
  RETURN NULL;
END $gone$;
REVOKE ALL ON FUNCTION public.kb_bury(uuid, text), public.kb_source_deleted() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.kb_bury(uuid, text) TO konstruct_app;
CREATE TRIGGER kb_source_deleted AFTER DELETE ON public.kb_sources REFERENCING OLD TABLE AS old_sources
  FOR EACH STATEMENT EXECUTE FUNCTION public.kb_source_deleted();

DO $isolate$
BEGIN
  ALTER TABLE public.kb_tombstones ENABLE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_tombstones FORCE ROW LEVEL SECURITY;
  CREATE POLICY tenant_isolation ON public.kb_tombstones
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);
  REVOKE ALL ON public.kb_tombstones FROM PUBLIC;
  GRANT SELECT, INSERT, UPDATE, DELETE ON public.kb_tombstones TO konstruct_app;
  -- Jobs that are there were uploaded in the order of their ids. The owner sees no rows under forced RLS, which is
  -- lifted inside this transaction only.
  ALTER TABLE public.kb_jobs NO FORCE ROW LEVEL SECURITY;
  UPDATE public.kb_jobs j SET seq = o.n
    FROM (SELECT k.tenant_id, k.id, row_number() OVER (ORDER BY k.id) AS n FROM public.kb_jobs k) o
   WHERE j.tenant_id = o.tenant_id AND j.id = o.id;
  ALTER TABLE public.kb_jobs FORCE ROW LEVEL SECURITY;
END $isolate$;

-- Plans need those that are kept: of others they hold a fixed vocabulary, models' names, and, of audit_events, what
-- events are looked for by. Statistics that are there go with PostgreSQL 18, which can clear them; before, a
-- superuser deletes them.
DO $statistics$
DECLARE c record;
BEGIN
  FOR c IN
    SELECT t.oid::regclass AS name, t.relname::text, a.attname::text
      FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE t.relnamespace = 'public'::regnamespace AND t.relkind = 'r' AND a.atttypid IN ('text'::regtype, 'bytea'::regtype)
       AND EXISTS (SELECT FROM pg_attribute i WHERE i.attrelid = t.oid AND i.attname = 'tenant_id' AND NOT i.attisdropped)
       AND t.relname <> 'river_job' AND (t.relname, a.attname) NOT IN (VALUES
         ('audit_events', 'action_type'), ('audit_events', 'user_id'), ('kb_jobs', 'state'), ('kb_sources', 'language'),
         ('kb_points', 'language'), ('kb_models', 'model'), ('kb_vectors', 'model'), ('kb_tiers', 'model'),
         ('stash_files', 'kind'), ('stash_files', 'state'), ('access_users', 'role'))
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
            WHERE t.relnamespace = 'public'::regnamespace AND t.relkind = 'r' AND a.attstattarget = 0 AND NOT a.attisdropped LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS -1', c.name, c.attname);
  END LOOP;
END $statistics$;
-- +goose StatementEnd
DROP TRIGGER kb_source_deleted ON public.kb_sources;
DROP FUNCTION public.kb_source_deleted(), public.kb_bury(uuid, text);
DROP TABLE public.kb_tombstones;
ALTER TABLE public.kb_jobs DROP COLUMN seq;
ALTER TABLE public.kb_sources DROP COLUMN seq;
DROP SEQUENCE public.kb_seq;
