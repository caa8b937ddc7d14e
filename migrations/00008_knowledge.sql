-- What the knowledge base stores about a document beside the seed's tables, which are not changed: its source, its
-- text, the positions of its passages, its earlier versions, and vectors of other models.
--
-- Visibility of documents is in 00012_labels.sql, what searches read in 00010_search.sql.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.kb_sources (
  tenant_id      uuid        NOT NULL,
  document_id    uuid        NOT NULL,
  source         text        NOT NULL,
  title          text        NOT NULL DEFAULT '',
  language       text        NOT NULL DEFAULT 'simple',
  evident        boolean     NOT NULL DEFAULT false,
  labels         text[]      NOT NULL DEFAULT '{}',
  metadata       jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  given          jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(given) = 'object'),
  bytes          bigint      NOT NULL,
  content_sha256 bytea       NOT NULL CHECK (octet_length(content_sha256) = 32),
  etag           text        NOT NULL DEFAULT '',
  recipe         text        NOT NULL,
  version        integer     NOT NULL DEFAULT 1,
  seq            bigint      NOT NULL DEFAULT 0,
  ingested_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, document_id),
  FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE,
  UNIQUE (tenant_id, source)
);
COMMENT ON COLUMN public.kb_sources.language IS 'the text search configuration that its words are read by';
COMMENT ON COLUMN public.kb_sources.evident IS
  'whether it states that language, or its text is evidently in it; otherwise it is a default one';
COMMENT ON COLUMN public.kb_sources.labels IS
  'who may find it: whoever asks with one of them; everybody where there are none';
COMMENT ON COLUMN public.kb_sources.given IS
  'what whoever took it in says of it; metadata is what it says of itself';
COMMENT ON COLUMN public.kb_sources.etag IS 'what its site or bucket calls this content';
COMMENT ON COLUMN public.kb_sources.recipe IS
  'how the chunks were made: cutting rules and model; another recipe makes them anew';
COMMENT ON COLUMN public.kb_sources.seq IS 'of the newest upload that was stored, or found to be stored already';
CREATE INDEX ix_kb_sources_language ON public.kb_sources (tenant_id, language);
CREATE INDEX ix_kb_sources_labelled ON public.kb_sources (tenant_id, document_id) WHERE labels <> '{}';

CREATE TABLE public.kb_settings (
  tenant_id uuid PRIMARY KEY,
  language  text NOT NULL CHECK (language ~ '^[a-z]{1,30}$')
);
COMMENT ON TABLE public.kb_settings IS 'what a tenant has set: the language of texts that give no evidence of theirs';

CREATE TABLE public.kb_passages (
  tenant_id  uuid    NOT NULL,
  chunk_id   uuid    NOT NULL,
  headings   text[]  NOT NULL DEFAULT '{}',
  language   text    NOT NULL DEFAULT 'simple',
  page       integer,
  start_byte integer NOT NULL,
  end_byte   integer NOT NULL,
  PRIMARY KEY (tenant_id, chunk_id),
  FOREIGN KEY (tenant_id, chunk_id) REFERENCES public.kb_chunks (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE public.kb_versions (
  tenant_id      uuid        NOT NULL,
  document_id    uuid        NOT NULL,
  version        integer     NOT NULL,
  agent_id       uuid        NOT NULL,
  bytes          bigint      NOT NULL,
  content_sha256 bytea       NOT NULL,
  recipe         text        NOT NULL,
  ingested_at    timestamptz NOT NULL,
  replaced_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, document_id, version),
  FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE
);
COMMENT ON TABLE public.kb_versions IS 'what a document was before it was replaced; its content is gone';

CREATE TABLE public.kb_texts (
  tenant_id   uuid NOT NULL,
  document_id uuid NOT NULL,
  content     text NOT NULL,
  PRIMARY KEY (tenant_id, document_id),
  FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE
);
COMMENT ON TABLE public.kb_texts IS 'what the bytes of kb_passages point into';

-- Embedding models besides the first, whose vectors are in kb_chunks.embedding. Vectors of another model are built
-- while the first is in use; one transaction switches searches to it, or back.
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

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'kb_settings', 'kb_sources', 'kb_passages', 'kb_versions', 'kb_texts',
                                   'kb_models', 'kb_vectors');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.kb_settings, public.kb_sources, public.kb_passages, public.kb_versions,
  public.kb_texts, public.kb_models, public.kb_vectors TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
DROP TABLE public.kb_settings, public.kb_vectors, public.kb_models, public.kb_texts, public.kb_versions,
  public.kb_passages, public.kb_sources;
