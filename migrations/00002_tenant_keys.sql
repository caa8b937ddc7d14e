-- Isolation that does not depend on who asks: keys that begin with the tenant, a policy that reads an
-- unset tenant as "no rows", and nothing for PUBLIC. See docs/how-it-works.md.
-- +goose Up
-- +goose StatementBegin
DO $crossed$
DECLARE n bigint; example text;
BEGIN
  -- The owner sees no rows under forced RLS; lifted inside this transaction only, to look for keys that
  -- already cross tenants before anything changes.
  ALTER TABLE public.kb_documents NO FORCE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_chunks NO FORCE ROW LEVEL SECURITY;
  SELECT count(*), min(format('chunk %s of tenant %s hangs on document %s of tenant %s', c.id, c.tenant_id, d.id, d.tenant_id))
    INTO n, example
    FROM public.kb_chunks c JOIN public.kb_documents d ON d.id = c.document_id AND d.tenant_id <> c.tenant_id;
  IF n > 0 THEN
    RAISE EXCEPTION '% chunk(s) cross tenants, for example %', n, example
      USING HINT = 'Delete these chunks or give them a document of their own tenant, then run migrate up again. Nothing was changed.';
  END IF;
  ALTER TABLE public.kb_documents FORCE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_chunks FORCE ROW LEVEL SECURITY;
END $crossed$;

DO $keys$
DECLARE c record;
BEGIN
  -- Names of constraints are the seed's client's own business, so they are read from the catalog.
  FOR c IN SELECT conrelid::regclass AS tbl, conname FROM pg_constraint
            WHERE conrelid IN ('public.kb_chunks'::regclass, 'public.kb_documents'::regclass, 'public.audit_events'::regclass)
              AND contype IN ('f', 'p') ORDER BY contype = 'p' LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.tbl, c.conname);
  END LOOP;
END $keys$;
-- +goose StatementEnd
ALTER TABLE public.audit_events ADD PRIMARY KEY (tenant_id, id);
ALTER TABLE public.kb_documents ADD PRIMARY KEY (tenant_id, id);
ALTER TABLE public.kb_chunks ADD PRIMARY KEY (tenant_id, id),
  ADD FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE;

-- After a SET LOCAL a pooled session reads '' and ''::uuid raises: no tenant set must mean no rows.
ALTER POLICY tenant_isolation ON public.audit_events
  USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);
ALTER POLICY tenant_isolation ON public.kb_documents
  USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);
ALTER POLICY tenant_isolation ON public.kb_chunks
  USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);

REVOKE ALL ON public.audit_events, public.kb_documents, public.kb_chunks FROM PUBLIC;
REVOKE TRUNCATE, REFERENCES, TRIGGER ON public.audit_events, public.kb_documents, public.kb_chunks FROM konstruct_app;

-- +goose Down
ALTER POLICY tenant_isolation ON public.audit_events USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
ALTER POLICY tenant_isolation ON public.kb_documents USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
ALTER POLICY tenant_isolation ON public.kb_chunks USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
ALTER TABLE public.kb_chunks DROP CONSTRAINT kb_chunks_tenant_id_document_id_fkey, DROP CONSTRAINT kb_chunks_pkey, ADD PRIMARY KEY (id);
ALTER TABLE public.kb_documents DROP CONSTRAINT kb_documents_pkey, ADD PRIMARY KEY (id);
ALTER TABLE public.kb_chunks ADD FOREIGN KEY (document_id) REFERENCES public.kb_documents (id) ON DELETE CASCADE;
ALTER TABLE public.audit_events DROP CONSTRAINT audit_events_pkey, ADD PRIMARY KEY (id);
