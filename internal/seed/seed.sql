-- The seed's revision 003: its Alembic operations, statement by statement.
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version (version_num) VALUES ('003');

CREATE TABLE audit_events (
  id             uuid        DEFAULT gen_random_uuid() NOT NULL,
  tenant_id      uuid        NOT NULL,
  agent_id       uuid,
  user_id        text,
  action_type    text        NOT NULL,
  input_summary  text,
  output_summary text,
  latency_ms     integer,
  metadata       jsonb       DEFAULT '{}'::jsonb NOT NULL,
  created_at     timestamptz DEFAULT now() NOT NULL,
  PRIMARY KEY (id)
);
COMMENT ON COLUMN audit_events.action_type IS 'llm_call | tool_invocation | escalation';
CREATE INDEX ix_audit_events_tenant_created ON audit_events (tenant_id, created_at DESC);
ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON audit_events USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
GRANT SELECT, INSERT ON audit_events TO konstruct_app;
REVOKE UPDATE, DELETE ON audit_events FROM konstruct_app;

CREATE TABLE kb_documents (
  id           uuid        DEFAULT gen_random_uuid() NOT NULL,
  tenant_id    uuid        NOT NULL,
  agent_id     uuid        NOT NULL,
  filename     text,
  source_url   text,
  content_type text,
  created_at   timestamptz DEFAULT now() NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX ix_kb_documents_tenant ON kb_documents (tenant_id);
CREATE INDEX ix_kb_documents_agent ON kb_documents (agent_id);
ALTER TABLE kb_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE kb_documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON kb_documents USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON kb_documents TO konstruct_app;

CREATE TABLE kb_chunks (
  id          uuid        DEFAULT gen_random_uuid() NOT NULL,
  tenant_id   uuid        NOT NULL,
  document_id uuid        NOT NULL,
  content     text        NOT NULL,
  chunk_index integer,
  created_at  timestamptz DEFAULT now() NOT NULL,
  PRIMARY KEY (id),
  FOREIGN KEY (document_id) REFERENCES kb_documents (id) ON DELETE CASCADE
);
ALTER TABLE kb_chunks ADD COLUMN embedding vector(384) NOT NULL;
CREATE INDEX ix_kb_chunks_tenant ON kb_chunks (tenant_id);
CREATE INDEX ix_kb_chunks_document ON kb_chunks (document_id);
CREATE INDEX ix_kb_chunks_hnsw ON kb_chunks USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64);
ALTER TABLE kb_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE kb_chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON kb_chunks USING (tenant_id = current_setting('app.current_tenant', TRUE)::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON kb_chunks TO konstruct_app;
