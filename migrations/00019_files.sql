-- Files, as OpenAI's API has them: kept as they were uploaded, and ingested when they are attached to a collection.
--
-- A file comes as an upload of parts, each of which is kept in pieces. To complete an upload its parts become the
-- file's, in the order that was asked for: nothing is copied. A file that is sent in one request is one part.
--
-- A document that is made of a file has the source konstruct:file/ID, and what it is split by. It is removed with its
-- file, and when it is in no collection any more.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.kb_files (
  tenant_id  uuid        NOT NULL,
  id         uuid        NOT NULL,
  filename   text        NOT NULL,
  purpose    text        NOT NULL,
  bytes      bigint      NOT NULL CHECK (bytes > 0),
  labels     text[]      NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX ix_kb_files_created ON public.kb_files (tenant_id, created_at, id);
CREATE INDEX ix_kb_files_expires ON public.kb_files (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON COLUMN public.kb_files.labels IS 'who may see it, and the document that is made of it';

CREATE TABLE public.kb_file_uploads (
  tenant_id    uuid        NOT NULL,
  id           uuid        NOT NULL,
  filename     text        NOT NULL,
  purpose      text        NOT NULL,
  bytes        bigint      CHECK (bytes > 0),
  labels       text[]      NOT NULL DEFAULT '{}',
  keep_seconds bigint,
  state        text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'completed', 'cancelled', 'expired')),
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX ix_kb_file_uploads_expires ON public.kb_file_uploads (tenant_id, expires_at);
COMMENT ON COLUMN public.kb_file_uploads.bytes IS 'that are to come; NULL for a file that is sent in one request';
COMMENT ON COLUMN public.kb_file_uploads.keep_seconds IS 'when the file expires after it was made; NULL is never';

CREATE TABLE public.kb_file_parts (
  tenant_id  uuid        NOT NULL,
  id         uuid        NOT NULL,
  upload_id  uuid,
  file_id    uuid,
  position   integer     NOT NULL DEFAULT 0,
  bytes      bigint,
  labels     text[]      NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, upload_id) REFERENCES public.kb_file_uploads (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, file_id) REFERENCES public.kb_files (tenant_id, id) ON DELETE CASCADE,
  CHECK ((upload_id IS NULL) <> (file_id IS NULL))
);
CREATE INDEX ix_kb_file_parts_upload ON public.kb_file_parts (tenant_id, upload_id) WHERE upload_id IS NOT NULL;
CREATE UNIQUE INDEX ix_kb_file_parts_file ON public.kb_file_parts (tenant_id, file_id, position)
  WHERE file_id IS NOT NULL;
COMMENT ON COLUMN public.kb_file_parts.bytes IS 'NULL while it is sent';
COMMENT ON COLUMN public.kb_file_parts.labels IS 'those of its upload or file';

CREATE TABLE public.kb_file_pieces (
  tenant_id uuid   NOT NULL,
  part_id   uuid   NOT NULL,
  start     bigint NOT NULL,
  content   bytea  NOT NULL,
  PRIMARY KEY (tenant_id, part_id, start),
  FOREIGN KEY (tenant_id, part_id) REFERENCES public.kb_file_parts (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE public.kb_file_pieces ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE public.kb_file_batches (
  tenant_id     uuid        NOT NULL,
  id            uuid        NOT NULL,
  collection_id uuid        NOT NULL,
  cancelled     boolean     NOT NULL DEFAULT false,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, collection_id) REFERENCES public.kb_collections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_kb_file_batches_collection ON public.kb_file_batches (tenant_id, collection_id);
COMMENT ON TABLE public.kb_file_batches IS 'files that were attached to a collection together';

ALTER TABLE public.kb_files ALTER COLUMN filename SET STATISTICS 0, ALTER COLUMN purpose SET STATISTICS 0;
ALTER TABLE public.kb_file_uploads ALTER COLUMN filename SET STATISTICS 0, ALTER COLUMN purpose SET STATISTICS 0,
  ALTER COLUMN state SET STATISTICS 0;
ALTER TABLE public.kb_file_pieces ALTER COLUMN content SET STATISTICS 0;

ALTER TABLE public.kb_collection_documents ADD COLUMN file_id uuid, ADD COLUMN batch_id uuid, ADD COLUMN chunking jsonb,
  ADD FOREIGN KEY (tenant_id, file_id) REFERENCES public.kb_files (tenant_id, id) ON DELETE CASCADE,
  ADD FOREIGN KEY (tenant_id, batch_id) REFERENCES public.kb_file_batches (tenant_id, id)
    ON DELETE SET NULL (batch_id);
ALTER TABLE public.kb_collection_documents ALTER COLUMN chunking SET STATISTICS 0;
COMMENT ON COLUMN public.kb_collection_documents.file_id IS
  'the file that becomes the document; then it is the id, too';
COMMENT ON COLUMN public.kb_collection_documents.chunking IS 'how it was asked to be split; NULL is the default';
CREATE INDEX ix_kb_collection_documents_file ON public.kb_collection_documents (tenant_id, file_id)
  WHERE file_id IS NOT NULL;
CREATE INDEX ix_kb_collection_documents_batch ON public.kb_collection_documents (tenant_id, batch_id)
  WHERE batch_id IS NOT NULL;

-- Documents of files, of which those that are in no collection are removed.
CREATE INDEX ix_kb_sources_files ON public.kb_sources (tenant_id, document_id)
  WHERE starts_with(source, 'konstruct:file/');

-- What is hidden, in the current tenant, from a caller with these labels: see kb_hidden_documents.
CREATE FUNCTION public.kb_hidden_files(granted text[]) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE ROWS 10 SET search_path = pg_catalog, pg_temp AS $hidden$
  SELECT f.id FROM public.kb_files f
   WHERE f.tenant_id = nullif(current_setting('app.current_tenant', TRUE), '')::uuid
     AND f.labels <> '{}' AND NOT f.labels && coalesce(granted, '{}')
$hidden$;

CREATE FUNCTION public.kb_wake_files() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
BEGIN
  PERFORM public.kb_wake_expiry(n.tenant_id, min(n.expires_at)) FROM new_files n
    WHERE n.expires_at IS NOT NULL GROUP BY n.tenant_id;
  RETURN NULL;
END $wake$;
CREATE TRIGGER kb_files_came AFTER INSERT ON public.kb_files
  REFERENCING NEW TABLE AS new_files FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake_files();
CREATE TRIGGER kb_file_uploads_came AFTER INSERT ON public.kb_file_uploads
  REFERENCING NEW TABLE AS new_files FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake_files();

-- Ends the jobs that no entry waits for any more, and has the documents of entries that are gone looked at. As in
-- kb_source_deleted, the tenant is set if a superuser deletes without a tenant.
CREATE FUNCTION public.kb_files_detached() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $detached$
DECLARE tenant uuid; before text := coalesce(current_setting('app.current_tenant', TRUE), '');
BEGIN
  FOR tenant IN SELECT DISTINCT o.tenant_id FROM old_entries o WHERE o.file_id IS NOT NULL LOOP
    PERFORM set_config('app.current_tenant', tenant::text, TRUE);
    UPDATE public.kb_jobs j
       SET state = 'cancelled', finished_at = now(), reason = 'its file was deleted, or taken out of the collection'
      FROM old_entries o
     WHERE o.tenant_id = tenant AND o.file_id IS NOT NULL AND o.state IN ('queued', 'running')
       AND j.tenant_id = tenant AND j.id = o.job_id AND j.state IN ('queued', 'running')
       AND NOT EXISTS (SELECT FROM public.kb_collection_documents e WHERE e.tenant_id = tenant AND e.job_id = j.id);
    IF EXISTS (SELECT FROM old_entries o
                WHERE o.tenant_id = tenant AND o.file_id IS NOT NULL AND o.document_id IS NOT NULL) THEN
      PERFORM public.kb_wake_expiry(tenant, now());
    END IF;
  END LOOP;
  PERFORM set_config('app.current_tenant', before, TRUE);
  RETURN NULL;
END $detached$;
CREATE TRIGGER kb_files_detached AFTER DELETE ON public.kb_collection_documents
  REFERENCING OLD TABLE AS old_entries FOR EACH STATEMENT EXECUTE FUNCTION public.kb_files_detached();

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'kb_files', 'kb_file_uploads', 'kb_file_parts', 'kb_file_pieces',
    'kb_file_batches');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE
  ON public.kb_files, public.kb_file_uploads, public.kb_file_parts, public.kb_file_pieces, public.kb_file_batches
  TO konstruct_app;
REVOKE ALL ON FUNCTION public.kb_hidden_files, public.kb_wake_files, public.kb_files_detached
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.kb_hidden_files TO konstruct_app;

-- Labels: as in 00012_labels.sql. An entry is visible with its collection, its document and its file.
DO $hide$
DECLARE
  sees_all CONSTANT text := '(SELECT coalesce(current_setting(''app.current_labels'', TRUE), '''') = ''*'')'
    ' OR (SELECT public.kb_owned())';
  labelled CONSTANT text := '(labels = ''{}'' OR labels && (SELECT public.kb_granted()))';
  collections CONSTANT text :=
    'collection_id NOT IN (SELECT public.kb_hidden_collections((SELECT public.kb_granted())))';
  p record;
BEGIN
  DROP POLICY labels_granted ON public.kb_collection_documents;
  FOR p IN SELECT * FROM (VALUES
    ('kb_files', labelled), ('kb_file_uploads', labelled), ('kb_file_parts', labelled),
    ('kb_file_pieces', 'EXISTS (SELECT FROM public.kb_file_parts t
       WHERE t.tenant_id = kb_file_pieces.tenant_id AND t.id = kb_file_pieces.part_id)'),
    ('kb_file_batches', collections),
    ('kb_collection_documents', '(' || collections || ' AND (document_id IS NULL'
      ' OR document_id NOT IN (SELECT public.kb_hidden_documents((SELECT public.kb_granted()))))'
      ' AND (file_id IS NULL OR file_id NOT IN (SELECT public.kb_hidden_files((SELECT public.kb_granted())))))'))
    v (name, condition)
  LOOP
    EXECUTE format('CREATE POLICY labels_granted ON public.%I AS RESTRICTIVE TO konstruct_app USING (%s OR %s)',
      p.name, sees_all, p.condition);
  END LOOP;
  FOR p IN SELECT * FROM unnest('{kb_files,kb_file_uploads,kb_file_parts}'::text[]) v (name) LOOP
    EXECUTE format('CREATE POLICY labels_given ON public.%I AS RESTRICTIVE FOR INSERT TO konstruct_app
      WITH CHECK (%s OR labels <@ (SELECT public.kb_granted()))', p.name, sees_all);
    EXECUTE format('CREATE TRIGGER labels_given BEFORE UPDATE ON public.%I FOR EACH ROW
      WHEN (NEW.labels IS DISTINCT FROM OLD.labels) EXECUTE FUNCTION public.kb_labels_given()', p.name);
  END LOOP;
END $hide$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DROP TRIGGER kb_files_detached ON public.kb_collection_documents;
DROP POLICY labels_granted ON public.kb_collection_documents;
ALTER TABLE public.kb_collection_documents DROP COLUMN file_id, DROP COLUMN batch_id, DROP COLUMN chunking;
CREATE POLICY labels_granted ON public.kb_collection_documents AS RESTRICTIVE TO konstruct_app USING (
  (SELECT coalesce(current_setting('app.current_labels', TRUE), '') = '*') OR (SELECT public.kb_owned())
  OR (collection_id NOT IN (SELECT public.kb_hidden_collections((SELECT public.kb_granted())))
    AND (document_id IS NULL
      OR document_id NOT IN (SELECT public.kb_hidden_documents((SELECT public.kb_granted()))))));
DROP TABLE public.kb_file_batches, public.kb_file_pieces, public.kb_file_parts, public.kb_file_uploads, public.kb_files;
DROP FUNCTION public.kb_files_detached, public.kb_wake_files, public.kb_hidden_files;
DROP INDEX public.ix_kb_sources_files;
-- +goose StatementEnd
