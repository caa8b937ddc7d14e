-- What the knowledge base remembers of a document beside the seed's own tables, which stay as they are:
-- where it came from, what its bytes were, and where in it each chunk stands.
-- +goose Up
CREATE TABLE public.kb_sources (
  tenant_id      uuid        NOT NULL,
  document_id    uuid        NOT NULL,
  source         text        NOT NULL,
  title          text        NOT NULL DEFAULT '',
  bytes          bigint      NOT NULL,
  content_sha256 bytea       NOT NULL CHECK (octet_length(content_sha256) = 32),
  recipe         text        NOT NULL,
  ingested_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, document_id),
  FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE,
  UNIQUE (tenant_id, source)
);
COMMENT ON COLUMN public.kb_sources.recipe IS 'how the chunks were made: cutting rules and model; another recipe makes them anew';

CREATE TABLE public.kb_passages (
  tenant_id  uuid    NOT NULL,
  chunk_id   uuid    NOT NULL,
  headings   text[]  NOT NULL DEFAULT '{}',
  page       integer,
  start_byte integer NOT NULL,
  end_byte   integer NOT NULL,
  PRIMARY KEY (tenant_id, chunk_id),
  FOREIGN KEY (tenant_id, chunk_id) REFERENCES public.kb_chunks (tenant_id, id) ON DELETE CASCADE
);

-- +goose StatementBegin
DO $isolate$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['kb_sources', 'kb_passages'] LOOP
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I
      USING (tenant_id = NULLIF(current_setting(''app.current_tenant'', TRUE), '''')::uuid)', t);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', t);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON public.%I TO konstruct_app', t);
  END LOOP;
END $isolate$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE public.kb_passages, public.kb_sources;
