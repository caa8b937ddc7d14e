-- Changes the seed's tables on adoption: keys begin with the tenant, a session without a tenant sees no rows, and
-- PUBLIC has no privileges. Also stores the schema's version, for roles that may not read the migrations' own table.
-- +goose Up
-- +goose StatementBegin
DO $crossed$
DECLARE n bigint; example text;
BEGIN
  -- Under forced row-level security the owner sees no rows, so it is lifted, only within this transaction, to find keys
  -- that already cross tenants before anything changes.
  ALTER TABLE public.kb_documents NO FORCE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_chunks NO FORCE ROW LEVEL SECURITY;
  SELECT count(*), min(format('chunk %s of tenant %s hangs on document %s of tenant %s', c.id, c.tenant_id, d.id,
         d.tenant_id))
    INTO n, example
    FROM public.kb_chunks c JOIN public.kb_documents d ON d.id = c.document_id AND d.tenant_id <> c.tenant_id;
  IF n > 0 THEN
    RAISE EXCEPTION '% chunk(s) cross tenants, for example %', n, example
      USING HINT = 'Delete these chunks or give them a document of their own tenant, then run migrate up again. '
        'Nothing was changed.';
  END IF;
  ALTER TABLE public.kb_documents FORCE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_chunks FORCE ROW LEVEL SECURITY;
END $crossed$;

DO $keys$
DECLARE c record; t text;
BEGIN
  -- The seed's client chose the constraints' names, so they are read from the catalog.
  FOR c IN SELECT conrelid::regclass AS tbl, conname FROM pg_constraint
            WHERE conrelid IN ('public.kb_chunks'::regclass, 'public.kb_documents'::regclass,
                               'public.audit_events'::regclass)
              AND contype IN ('f', 'p') ORDER BY contype = 'p' LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.tbl, c.conname);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['audit_events', 'kb_documents', 'kb_chunks'] LOOP
    EXECUTE format('ALTER TABLE public.%I ADD PRIMARY KEY (tenant_id, id)', t);
    -- After a SET LOCAL a pooled session reads '', and ''::uuid raises: no tenant set must mean no rows.
    EXECUTE format('ALTER POLICY tenant_isolation ON public.%I
      USING (tenant_id = NULLIF(current_setting(''app.current_tenant'', TRUE), '''')::uuid)', t);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', t);
    EXECUTE format('REVOKE TRUNCATE, REFERENCES, TRIGGER ON public.%I FROM konstruct_app', t);
  END LOOP;
  ALTER TABLE public.kb_chunks
    ADD FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE;
  -- Only the database's owner may do this; for another role PostgreSQL only warns.
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $keys$;

-- Isolates tables by tenant: forced row-level security with one policy for a command (ALL or SELECT), and no privileges
-- for PUBLIC. Every migration calls it for the tables that it creates, and then grants privileges to the roles.
CREATE FUNCTION public.konstruct_isolate(command text, VARIADIC tables text[]) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $isolate$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY tables LOOP
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I FOR %s
      USING (tenant_id = NULLIF(current_setting(''app.current_tenant'', TRUE), '''')::uuid)', t, command);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', t);
  END LOOP;
END $isolate$;
REVOKE ALL ON FUNCTION public.konstruct_isolate FROM PUBLIC;

-- The version of the schema: an older or newer program checks it and reports the difference.
CREATE FUNCTION public.konstruct_schema() RETURNS bigint
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT max(version_id) FROM public.goose_db_version WHERE is_applied';
REVOKE ALL ON FUNCTION public.konstruct_schema FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.konstruct_schema TO konstruct_app, konstruct_notary, konstruct_compliance;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DROP FUNCTION public.konstruct_schema, public.konstruct_isolate;
ALTER TABLE public.kb_chunks DROP CONSTRAINT kb_chunks_tenant_id_document_id_fkey;
DO $keys$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['audit_events', 'kb_documents', 'kb_chunks'] LOOP
    EXECUTE format('ALTER TABLE public.%I DROP CONSTRAINT %I, ADD PRIMARY KEY (id)', t, t || '_pkey');
    EXECUTE format('ALTER POLICY tenant_isolation ON public.%I
      USING (tenant_id = current_setting(''app.current_tenant'', TRUE)::uuid)', t);
  END LOOP;
END $keys$;
ALTER TABLE public.kb_chunks
  ADD FOREIGN KEY (document_id) REFERENCES public.kb_documents (id) ON DELETE CASCADE;
-- +goose StatementEnd
