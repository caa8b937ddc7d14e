-- Vectors of other models beside those of kb_chunks.embedding, which stay the first model's: built beside, served from one transaction on, and back.
-- +goose Up
CREATE TABLE public.kb_models (
  tenant_id  uuid        NOT NULL,
  model      text        NOT NULL CHECK (model <> ''),
  dimensions integer     NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
  serving    boolean     NOT NULL DEFAULT false,
  started_at timestamptz NOT NULL DEFAULT now(),
  served_at  timestamptz,
  PRIMARY KEY (tenant_id, model)
);
CREATE UNIQUE INDEX kb_models_one_serves ON public.kb_models (tenant_id) WHERE serving;
COMMENT ON COLUMN public.kb_models.serving IS 'searches are by it; where none serves, by kb_chunks.embedding';

CREATE TABLE public.kb_vectors (
  tenant_id uuid   NOT NULL,
  chunk_id  uuid   NOT NULL,
  model     text   NOT NULL,
  embedding vector NOT NULL,
  PRIMARY KEY (tenant_id, chunk_id, model),
  FOREIGN KEY (tenant_id, chunk_id) REFERENCES public.kb_chunks (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, model) REFERENCES public.kb_models (tenant_id, model) ON DELETE CASCADE
);
CREATE INDEX ix_kb_vectors_model ON public.kb_vectors (tenant_id, model);

-- +goose StatementBegin
DO $isolate$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['kb_models', 'kb_vectors'] LOOP
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
DROP TABLE public.kb_vectors, public.kb_models;
