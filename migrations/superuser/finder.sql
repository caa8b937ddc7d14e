-- Gives the functions that look up ids (00004_questions.sql) to a role that nobody can log in as or become and that
-- sees every tenant's events, so that their conditions can use an index. They filter by the current tenant and return
-- only ids. Only a superuser may run this; `konstruct migrate guard` does.
DO $finder$
BEGIN
  IF to_regprocedure('public.audit_find_run(text, integer)') IS NULL THEN RETURN; END IF; -- an older schema
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'konstruct_finder') THEN
    CREATE ROLE konstruct_finder NOLOGIN;
  END IF;
  GRANT USAGE ON SCHEMA public TO konstruct_finder;
  GRANT SELECT (tenant_id, id, created_at, input_summary, output_summary, metadata) ON public.audit_events
    TO konstruct_finder;
  GRANT EXECUTE ON FUNCTION public.audit_words(uuid, text, text) TO konstruct_finder;
  DROP POLICY IF EXISTS finder_reads ON public.audit_events;
  CREATE POLICY finder_reads ON public.audit_events FOR SELECT TO konstruct_finder USING (true);
  ALTER FUNCTION public.audit_find_run(text, integer) OWNER TO konstruct_finder;
  ALTER FUNCTION public.audit_find_words(text, timestamptz, timestamptz, timestamptz, uuid, integer)
    OWNER TO konstruct_finder;
END $finder$;
