-- Collections: named sets of a tenant's documents, with attributes of their own for each document. (OpenAI's API calls
-- one a vector store, Qdrant a collection.) A document may be in several, and one in none is found all the same by a
-- search that names no collection.
--
-- A row of kb_collection_documents is an entry: a document, or one that is still ingested. The job that ingests a
-- document names the collections that it joins; the end of the job and the entry are one transaction.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.kb_collections (
  tenant_id      uuid        NOT NULL,
  id             uuid        NOT NULL,
  name           text        NOT NULL DEFAULT '',
  description    text        NOT NULL DEFAULT '',
  labels         text[]      NOT NULL DEFAULT '{}',
  metadata       jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  chunking       jsonb,
  expires_days   integer     CHECK (expires_days BETWEEN 1 AND 3650),
  expired        boolean     NOT NULL DEFAULT false,
  created_at     timestamptz NOT NULL DEFAULT now(),
  last_active_at timestamptz NOT NULL DEFAULT now(),
  indexed        boolean     NOT NULL DEFAULT false,
  ef_search      integer     NOT NULL DEFAULT 0 CHECK (ef_search BETWEEN 0 AND 1000),
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX ix_kb_collections_indexed ON public.kb_collections (tenant_id) WHERE indexed;
CREATE INDEX ix_kb_collections_name ON public.kb_collections (tenant_id, name);
CREATE INDEX ix_kb_collections_expires ON public.kb_collections (tenant_id)
  WHERE expires_days IS NOT NULL AND NOT expired;
ALTER TABLE public.kb_collections ALTER COLUMN name SET STATISTICS 0, ALTER COLUMN description SET STATISTICS 0,
  ALTER COLUMN metadata SET STATISTICS 0, ALTER COLUMN chunking SET STATISTICS 0;
ALTER TABLE public.kb_collections SET (fillfactor = 80);
COMMENT ON COLUMN public.kb_collections.name IS
  'ids identify collections: those made through the OpenAI-compatible API may share a name, or have none';
COMMENT ON COLUMN public.kb_collections.labels IS
  'who may see it; documents that are ingested into it get these labels, unless they are given others';
COMMENT ON COLUMN public.kb_collections.chunking IS
  'how documents that are ingested into it are split, unless they say otherwise; NULL is the default';
COMMENT ON COLUMN public.kb_collections.expires_days IS 'it expires so many days after last_active_at; NULL is never';
COMMENT ON COLUMN public.kb_collections.indexed IS
  'it is large: kb_collection_points has its points, and there is an index of them, or will be';
COMMENT ON COLUMN public.kb_collections.ef_search IS 'how far searches look in that index; 0 until it was measured';
COMMENT ON COLUMN public.kb_collections.last_active_at IS
  'when it was last searched or changed, to the minute; kept for those that expire';

CREATE TABLE public.kb_collection_documents (
  tenant_id     uuid        NOT NULL,
  collection_id uuid        NOT NULL,
  id            uuid        NOT NULL,
  document_id   uuid,
  job_id        uuid,
  state         text        NOT NULL DEFAULT 'done'
    CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
  reason        text        NOT NULL DEFAULT '',
  attributes    jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
  added_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, collection_id, id),
  FOREIGN KEY (tenant_id, collection_id) REFERENCES public.kb_collections (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE
);
COMMENT ON COLUMN public.kb_collection_documents.id IS
  'of the entry: the document''s, or the file''s that becomes the document';
COMMENT ON COLUMN public.kb_collection_documents.document_id IS 'NULL until it is ingested';
COMMENT ON COLUMN public.kb_collection_documents.job_id IS
  'the job that ingests it: its end is the entry''s; NULL for a document that was added';
-- What a search of a collection reads: which documents are in it.
CREATE UNIQUE INDEX ix_kb_collection_documents_document
  ON public.kb_collection_documents (tenant_id, collection_id, document_id) WHERE document_id IS NOT NULL;
CREATE INDEX ix_kb_collection_documents_of ON public.kb_collection_documents (tenant_id, document_id);
CREATE INDEX ix_kb_collection_documents_job ON public.kb_collection_documents (tenant_id, job_id)
  WHERE job_id IS NOT NULL;
CREATE INDEX ix_kb_collection_documents_added
  ON public.kb_collection_documents (tenant_id, collection_id, added_at, id);
ALTER TABLE public.kb_collection_documents ALTER COLUMN state SET STATISTICS 0, ALTER COLUMN reason SET STATISTICS 0,
  ALTER COLUMN attributes SET STATISTICS 0;
ALTER TABLE public.kb_collection_documents SET (
  autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.02,
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- The points of large collections, each of which has an index of its own here: what an index of the whole tenant yields
-- would be lost to the other documents.
CREATE TABLE public.kb_collection_points (
  tenant_id     uuid         NOT NULL,
  collection_id uuid         NOT NULL,
  document_id   uuid         NOT NULL,
  chunk_id      uuid         NOT NULL,
  half          halfvec(384) NOT NULL,
  PRIMARY KEY (tenant_id, collection_id, document_id, chunk_id),
  FOREIGN KEY (tenant_id, collection_id) REFERENCES public.kb_collections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_kb_collection_points_document ON public.kb_collection_points (tenant_id, document_id);
ALTER TABLE public.kb_collection_points SET (
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Keep the points of large collections: triggers of kb_points, and of entries that come and go. They see every label:
-- what somebody writes is found by others too. The lock, which kb_wake_index takes too, has whoever makes a collection
-- a large one wait until what was written before is committed; what is written after sees that it is one.
CREATE FUNCTION public.kb_collection_points_came() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $came$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct indexes ' || t.tenant_id, 0))
     FROM (SELECT DISTINCT n.tenant_id FROM new_points n) t;
  IF EXISTS (SELECT FROM public.kb_collections c WHERE c.indexed
                AND c.tenant_id IN (SELECT n.tenant_id FROM new_points n)) THEN
    INSERT INTO public.kb_collection_points (tenant_id, collection_id, document_id, chunk_id, half)
    SELECT n.tenant_id, c.id, n.document_id, n.chunk_id, n.half
      FROM new_points n
      JOIN public.kb_collection_documents e ON e.tenant_id = n.tenant_id AND e.document_id = n.document_id
      JOIN public.kb_collections c ON c.tenant_id = e.tenant_id AND c.id = e.collection_id AND c.indexed
     WHERE n.half IS NOT NULL
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END $came$;
CREATE FUNCTION public.kb_collection_points_went() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $went$
BEGIN
  DELETE FROM public.kb_collection_points p USING old_points o
   WHERE p.tenant_id = o.tenant_id AND p.document_id = o.document_id AND p.chunk_id = o.chunk_id;
  RETURN NULL;
END $went$;
CREATE FUNCTION public.kb_collection_entries_came() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $came$
BEGIN
  PERFORM public.kb_wake_index(t.tenant_id)
     FROM (SELECT DISTINCT n.tenant_id FROM new_entries n WHERE n.document_id IS NOT NULL) t;
  INSERT INTO public.kb_collection_points (tenant_id, collection_id, document_id, chunk_id, half)
  SELECT p.tenant_id, c.id, p.document_id, p.chunk_id, p.half
    FROM new_entries n
    JOIN public.kb_collections c ON c.tenant_id = n.tenant_id AND c.id = n.collection_id AND c.indexed
    JOIN public.kb_points p ON p.tenant_id = n.tenant_id AND p.document_id = n.document_id AND p.half IS NOT NULL
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $came$;
CREATE FUNCTION public.kb_collection_entries_went() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $went$
BEGIN
  DELETE FROM public.kb_collection_points p USING old_entries o
   WHERE p.tenant_id = o.tenant_id AND p.collection_id = o.collection_id AND p.document_id = o.document_id;
  PERFORM public.kb_wake_index(t.tenant_id)
     FROM (SELECT DISTINCT o.tenant_id FROM old_entries o WHERE o.document_id IS NOT NULL) t;
  RETURN NULL;
END $went$;
CREATE FUNCTION public.kb_collection_points_truncated() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $truncated$
BEGIN
  TRUNCATE public.kb_collection_points;
  RETURN NULL;
END $truncated$;
CREATE TRIGGER kb_collection_points_came AFTER INSERT ON public.kb_points
  REFERENCING NEW TABLE AS new_points FOR EACH STATEMENT EXECUTE FUNCTION public.kb_collection_points_came();
CREATE TRIGGER kb_collection_points_went AFTER DELETE ON public.kb_points
  REFERENCING OLD TABLE AS old_points FOR EACH STATEMENT EXECUTE FUNCTION public.kb_collection_points_went();
CREATE TRIGGER kb_collection_points_truncated AFTER TRUNCATE ON public.kb_points
  FOR EACH STATEMENT EXECUTE FUNCTION public.kb_collection_points_truncated();
CREATE TRIGGER kb_collection_entries_came AFTER INSERT ON public.kb_collection_documents
  REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION public.kb_collection_entries_came();
CREATE TRIGGER kb_collection_entries_changed AFTER UPDATE ON public.kb_collection_documents
  REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION public.kb_collection_entries_came();
CREATE TRIGGER kb_collection_entries_went AFTER DELETE ON public.kb_collection_documents
  REFERENCING OLD TABLE AS old_entries FOR EACH STATEMENT EXECUTE FUNCTION public.kb_collection_entries_went();

ALTER TABLE public.kb_jobs ADD COLUMN collections uuid[], ADD COLUMN attributes jsonb, ADD COLUMN file_id uuid;
COMMENT ON COLUMN public.kb_jobs.file_id IS 'whose content it ingests, instead of that in kb_uploads: 00019_files.sql';
COMMENT ON COLUMN public.kb_jobs.collections IS 'that its document joins';
COMMENT ON COLUMN public.kb_jobs.attributes IS 'of the document in these; NULL keeps those that it has';

-- Adds a document to collections; its attributes stay as they are where NULL is given. A collection that is gone, has
-- expired or is hidden is passed over.
CREATE FUNCTION public.kb_collect(tenant uuid, document uuid, collections uuid[], attributes jsonb) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $collect$
DECLARE joined uuid;
BEGIN
  FOR joined IN
    SELECT c.id FROM public.kb_collections c
     WHERE c.tenant_id = tenant AND c.id = ANY (collections) AND NOT c.expired ORDER BY c.id FOR KEY SHARE
  LOOP
    UPDATE public.kb_collection_documents e SET attributes = coalesce(kb_collect.attributes, e.attributes)
     WHERE e.tenant_id = tenant AND e.collection_id = joined AND e.document_id = document;
    CONTINUE WHEN FOUND;
    INSERT INTO public.kb_collection_documents AS e (tenant_id, collection_id, id, document_id, attributes)
    VALUES (tenant, joined, document, document, coalesce(kb_collect.attributes, '{}'))
    ON CONFLICT (tenant_id, collection_id, id) DO UPDATE SET attributes = coalesce(kb_collect.attributes, e.attributes);
  END LOOP;
END $collect$;

-- Carries what becomes of jobs over to the entries that wait for them, and adds what is done to its collections. What a
-- job makes of a file joins no collection but those whose entries wait for it: one that was taken out meanwhile does
-- not come back.
CREATE FUNCTION public.kb_jobs_settled() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $settled$
BEGIN
  UPDATE public.kb_collection_documents e SET state = j.state, reason = j.reason
    FROM changed_jobs j
   WHERE e.tenant_id = j.tenant_id AND e.job_id = j.id AND e.state <> j.state
     AND (j.state <> 'done' OR j.document_id IS NULL);
  IF EXISTS (SELECT FROM changed_jobs j WHERE j.state = 'done' AND j.collections IS NOT NULL
                AND j.document_id IS NOT NULL) THEN
    -- The document may be in the collection already, by its own id: the entry that waited takes its place.
    DELETE FROM public.kb_collection_documents o
     USING changed_jobs j, public.kb_collection_documents e
     WHERE j.state = 'done' AND e.tenant_id = j.tenant_id AND e.job_id = j.id AND o.tenant_id = j.tenant_id
       AND o.collection_id = e.collection_id AND o.document_id = j.document_id AND o.id <> e.id;
    UPDATE public.kb_collection_documents e SET state = 'done', reason = '', document_id = j.document_id
      FROM changed_jobs j
     WHERE j.state = 'done' AND j.document_id IS NOT NULL AND e.tenant_id = j.tenant_id AND e.job_id = j.id
       AND EXISTS (SELECT FROM public.kb_documents d WHERE d.tenant_id = j.tenant_id AND d.id = j.document_id);
    PERFORM public.kb_collect(j.tenant_id, j.document_id, j.collections, j.attributes)
       FROM changed_jobs j
      WHERE j.state = 'done' AND j.collections IS NOT NULL AND j.file_id IS NULL
        AND EXISTS (SELECT FROM public.kb_documents d WHERE d.tenant_id = j.tenant_id AND d.id = j.document_id);
  END IF;
  RETURN NULL;
END $settled$;
CREATE TRIGGER kb_jobs_settled AFTER UPDATE ON public.kb_jobs
  REFERENCING NEW TABLE AS changed_jobs FOR EACH STATEMENT EXECUTE FUNCTION public.kb_jobs_settled();

-- What is hidden, in the current tenant, from a caller with these labels: see kb_hidden_documents.
CREATE FUNCTION public.kb_hidden_collections(granted text[]) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE ROWS 10 SET search_path = pg_catalog, pg_temp AS $hidden$
  SELECT c.id FROM public.kb_collections c
   WHERE c.tenant_id = nullif(current_setting('app.current_tenant', TRUE), '')::uuid
     AND c.labels <> '{}' AND NOT c.labels && coalesce(granted, '{}')
$hidden$;

-- Has the expiry of a tenant's collections looked at when the first may be due: see kb_wake. A ticket that is scheduled
-- for later does not do.
CREATE FUNCTION public.kb_wake_expiry(tenant uuid, first timestamptz) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct collections ' || tenant, 0));
  IF current_setting('transaction_isolation') <> 'read committed' OR NOT EXISTS (
    SELECT FROM public.river_job r
     WHERE r.tenant_id = tenant AND r.queue = 'collections' AND r.finalized_at IS NULL
       AND (r.state <> 'scheduled' OR r.scheduled_at <= first)) THEN
    INSERT INTO public.river_job (kind, queue, args, state, scheduled_at)
    VALUES ('tenant', 'collections', jsonb_build_object('tenant', tenant), 'scheduled', first);
  END IF;
END $wake$;
CREATE FUNCTION public.kb_wake_collections() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
BEGIN
  PERFORM public.kb_wake_expiry(n.tenant_id, min(n.last_active_at + n.expires_days * interval '1 day'))
     FROM new_collections n WHERE n.expires_days IS NOT NULL AND NOT n.expired GROUP BY n.tenant_id;
  RETURN NULL;
END $wake$;
CREATE TRIGGER kb_collections_came AFTER INSERT ON public.kb_collections
  REFERENCING NEW TABLE AS new_collections FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake_collections();
CREATE TRIGGER kb_collections_changed AFTER UPDATE ON public.kb_collections
  REFERENCING NEW TABLE AS new_collections FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake_collections();

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'kb_collections', 'kb_collection_documents', 'kb_collection_points');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE
  ON public.kb_collections, public.kb_collection_documents, public.kb_collection_points TO konstruct_app;
REVOKE ALL ON FUNCTION public.kb_collect, public.kb_jobs_settled, public.kb_hidden_collections,
  public.kb_wake_collections, public.kb_wake_expiry, public.kb_collection_points_came,
  public.kb_collection_points_went, public.kb_collection_points_truncated, public.kb_collection_entries_came,
  public.kb_collection_entries_went FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.kb_collect, public.kb_hidden_collections TO konstruct_app;

-- Labels: as in 00012_labels.sql. An entry is visible with its collection and its document.
DO $hide$
DECLARE
  sees_all CONSTANT text := '(SELECT coalesce(current_setting(''app.current_labels'', TRUE), '''') = ''*'')'
    ' OR (SELECT public.kb_owned())';
  p record;
BEGIN
  FOR p IN SELECT * FROM (VALUES
    ('kb_collections', '(labels = ''{}'' OR labels && (SELECT public.kb_granted()))'),
    ('kb_collection_documents',
      '(collection_id NOT IN (SELECT public.kb_hidden_collections((SELECT public.kb_granted())))'
      ' AND (document_id IS NULL'
      ' OR document_id NOT IN (SELECT public.kb_hidden_documents((SELECT public.kb_granted())))))'),
    ('kb_collection_points', 'document_id NOT IN (SELECT public.kb_hidden_documents((SELECT public.kb_granted())))'))
    v (name, condition)
  LOOP
    EXECUTE format('CREATE POLICY labels_granted ON public.%I AS RESTRICTIVE TO konstruct_app USING (%s OR %s)',
      p.name, sees_all, p.condition);
  END LOOP;
  EXECUTE format('CREATE POLICY labels_given ON public.kb_collections AS RESTRICTIVE FOR INSERT TO konstruct_app
    WITH CHECK (%s OR labels <@ (SELECT public.kb_granted()))', sees_all);
END $hide$;
CREATE TRIGGER labels_given BEFORE UPDATE ON public.kb_collections FOR EACH ROW
  WHEN (NEW.labels IS DISTINCT FROM OLD.labels) EXECUTE FUNCTION public.kb_labels_given();
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DROP TRIGGER kb_jobs_settled ON public.kb_jobs;
DROP TRIGGER kb_collection_points_came ON public.kb_points;
DROP TRIGGER kb_collection_points_went ON public.kb_points;
DROP TRIGGER kb_collection_points_truncated ON public.kb_points;
DROP TABLE public.kb_collection_points, public.kb_collection_documents, public.kb_collections;
DROP FUNCTION public.kb_wake_collections, public.kb_wake_expiry, public.kb_hidden_collections,
  public.kb_jobs_settled, public.kb_collect, public.kb_collection_points_came, public.kb_collection_points_went,
  public.kb_collection_points_truncated, public.kb_collection_entries_came, public.kb_collection_entries_went;
ALTER TABLE public.kb_jobs DROP COLUMN file_id, DROP COLUMN attributes, DROP COLUMN collections;
-- Under forced row-level security the owner sees no tickets, so it is lifted, only within this transaction.
ALTER TABLE public.river_job NO FORCE ROW LEVEL SECURITY;
DELETE FROM public.river_job WHERE queue = 'collections';
ALTER TABLE public.river_job FORCE ROW LEVEL SECURITY;
-- +goose StatementEnd
