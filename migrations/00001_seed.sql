-- The seed's revision 003, statement by statement. A database that already stands there (Alembic's
-- alembic_version at 003) is left exactly as it is; the next migration improves both alike.
-- +goose Up
-- +goose StatementBegin
DO $roles$
DECLARE r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['konstruct_app', 'konstruct_notary', 'konstruct_compliance'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', r);
      EXCEPTION WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'role % does not exist and % may not create it', r, current_user
          USING HINT = format('As a superuser run: CREATE ROLE %I LOGIN PASSWORD ''…'';', r);
      END;
    END IF;
  END LOOP;
END $roles$;
-- +goose StatementEnd
CREATE EXTENSION IF NOT EXISTS vector;
-- +goose StatementBegin
DO $seed$
DECLARE revision text;
BEGIN
  IF to_regclass('public.audit_events') IS NOT NULL THEN
    IF to_regclass('public.alembic_version') IS NOT NULL THEN
      SELECT version_num INTO revision FROM public.alembic_version;
    END IF;
    IF revision IS DISTINCT FROM '003' THEN
      RAISE EXCEPTION 'audit_events exists, but the database does not stand at revision 003 (found %)', coalesce(revision, 'none')
        USING HINT = 'Bring it to revision 003 with its own migrations first, or use an empty database.';
    END IF;
    RETURN;
  END IF;

  CREATE TABLE public.audit_events (
    id             uuid        DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
    tenant_id      uuid        NOT NULL,
    agent_id       uuid,
    user_id        text,
    action_type    text        NOT NULL,
    input_summary  text,
    output_summary text,
    latency_ms     integer,
    metadata       jsonb       DEFAULT '{}'::jsonb NOT NULL,
    created_at     timestamptz DEFAULT now() NOT NULL
  );
  COMMENT ON COLUMN public.audit_events.action_type IS 'llm_call | tool_invocation | escalation';
  CREATE INDEX ix_audit_events_tenant_created ON public.audit_events (tenant_id, created_at DESC);

  CREATE TABLE public.kb_documents (
    id           uuid        DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
    tenant_id    uuid        NOT NULL,
    agent_id     uuid        NOT NULL,
    filename     text,
    source_url   text,
    content_type text,
    created_at   timestamptz DEFAULT now() NOT NULL
  );
  CREATE INDEX ix_kb_documents_tenant ON public.kb_documents (tenant_id);
  CREATE INDEX ix_kb_documents_agent ON public.kb_documents (agent_id);

  CREATE TABLE public.kb_chunks (
    id          uuid        DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
    tenant_id   uuid        NOT NULL,
    document_id uuid        NOT NULL REFERENCES public.kb_documents (id) ON DELETE CASCADE,
    content     text        NOT NULL,
    chunk_index integer,
    created_at  timestamptz DEFAULT now() NOT NULL,
    embedding   vector(384) NOT NULL
  );
  CREATE INDEX ix_kb_chunks_tenant ON public.kb_chunks (tenant_id);
  CREATE INDEX ix_kb_chunks_document ON public.kb_chunks (document_id);
  CREATE INDEX ix_kb_chunks_hnsw ON public.kb_chunks USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64);

  ALTER TABLE public.audit_events ENABLE ROW LEVEL SECURITY;
  ALTER TABLE public.audit_events FORCE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_documents ENABLE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_documents FORCE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_chunks ENABLE ROW LEVEL SECURITY;
  ALTER TABLE public.kb_chunks FORCE ROW LEVEL SECURITY;
  CREATE POLICY tenant_isolation ON public.audit_events USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
  CREATE POLICY tenant_isolation ON public.kb_documents USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
  CREATE POLICY tenant_isolation ON public.kb_chunks USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);

  GRANT SELECT, INSERT ON public.audit_events TO konstruct_app;
  REVOKE UPDATE, DELETE ON public.audit_events FROM konstruct_app;
  GRANT SELECT, INSERT, UPDATE, DELETE ON public.kb_documents, public.kb_chunks TO konstruct_app;
END $seed$;
-- +goose StatementEnd
GRANT USAGE ON SCHEMA public TO konstruct_app, konstruct_notary, konstruct_compliance;

-- +goose Down
DROP TABLE public.kb_chunks, public.kb_documents, public.audit_events;
