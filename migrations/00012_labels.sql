-- Access control labels of documents. Labels are granted to a caller, and policies here compare them with each
-- document's labels, whatever the statement is. A transaction sees documents without labels and those with one of
-- app.current_labels, which is set beside app.current_tenant: '*' for every label, or an array as text, {legal,hr}. If
-- it is not set, no labelled document is visible.
--
-- Every row of a hidden document is hidden: its passages, vectors, words, text and versions, its queued jobs, and the
-- pieces of its upload. Hidden documents are listed once for each statement, not checked for each row.
-- +goose Up
-- +goose StatementBegin

-- Returns the transaction's labels; '{}' if it has none, or every label ('*').
CREATE FUNCTION public.kb_granted() RETURNS text[]
  LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
  RETURN coalesce(nullif(nullif(current_setting('app.current_labels', TRUE), ''), '*'), '{}')::text[];

-- Reports whether the current role is the owner, which lists hidden documents and for which foreign keys delete. It has
-- every label.
CREATE FUNCTION public.kb_owned() RETURNS boolean
  LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
  RETURN current_user = (
    SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = 'public.kb_sources'::regclass);

-- What is hidden, in the current tenant, from a caller with these labels.
CREATE FUNCTION public.kb_hidden_documents(granted text[]) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE ROWS 100 SET search_path = pg_catalog, pg_temp AS $hidden$
  SELECT s.document_id FROM public.kb_sources s
   WHERE s.tenant_id = nullif(current_setting('app.current_tenant', TRUE), '')::uuid
     AND s.labels <> '{}' AND NOT s.labels && coalesce(granted, '{}')
$hidden$;
CREATE FUNCTION public.kb_hidden_passages(granted text[]) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE ROWS 1000 SET search_path = pg_catalog, pg_temp AS $hidden$
  SELECT p.chunk_id FROM public.kb_hidden_documents(granted) d (id), LATERAL (
    SELECT p.chunk_id FROM public.kb_points p
     WHERE p.tenant_id = nullif(current_setting('app.current_tenant', TRUE), '')::uuid
       AND p.document_id = d.id OFFSET 0) p
$hidden$;
CREATE FUNCTION public.kb_hidden_sources(granted text[]) RETURNS SETOF text
  LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE ROWS 100 SET search_path = pg_catalog, pg_temp AS $hidden$
  SELECT s.source FROM public.kb_sources s
   WHERE s.tenant_id = nullif(current_setting('app.current_tenant', TRUE), '')::uuid
     AND s.labels <> '{}' AND NOT s.labels && coalesce(granted, '{}')
$hidden$;

-- Refuses an update that adds labels which the writer does not have. A policy can't compare a row with what it was: a
-- writer with one label of a document keeps the others, which they may lack.
CREATE FUNCTION public.kb_labels_given() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $given$
DECLARE refused boolean;
BEGIN
  IF NOT row_security_active(TG_RELID) OR coalesce(current_setting('app.current_labels', TRUE), '') = '*'
     OR public.kb_owned() THEN
    RETURN NEW;
  END IF;
  refused := NOT coalesce(NEW.labels, '{}') <@ (coalesce(OLD.labels, '{}') || public.kb_granted());
  IF TG_TABLE_NAME = 'kb_jobs' THEN
    refused := refused OR NOT NEW.sees <@ (OLD.sees || public.kb_granted());
  END IF;
  IF refused THEN
    RAISE EXCEPTION 'the new row violates row-level security of "%": it has a label that was not granted', TG_TABLE_NAME
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $given$;

REVOKE ALL ON FUNCTION public.kb_granted, public.kb_owned, public.kb_hidden_documents, public.kb_hidden_passages,
  public.kb_hidden_sources, public.kb_labels_given FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.kb_granted, public.kb_owned, public.kb_hidden_documents, public.kb_hidden_passages,
  public.kb_hidden_sources TO konstruct_app;

DO $hide$
DECLARE
  -- Evaluated once for each statement; the function is called only if the setting is not '*'.
  sees_all CONSTANT text := '(SELECT coalesce(current_setting(''app.current_labels'', TRUE), '''') = ''*'')'
    ' OR (SELECT public.kb_owned())';
  labelled CONSTANT text := '(labels = ''{}'' OR labels && (SELECT public.kb_granted()))';
  documents CONSTANT text := '(SELECT public.kb_hidden_documents((SELECT public.kb_granted())))';
  passages CONSTANT text := '(SELECT public.kb_hidden_passages((SELECT public.kb_granted())))';
  sources CONSTANT text := '(SELECT public.kb_hidden_sources((SELECT public.kb_granted())))';
  p record;
BEGIN
  FOR p IN SELECT * FROM (VALUES
    ('kb_sources', labelled),
    ('kb_documents', 'id NOT IN ' || documents),
    ('kb_chunks', 'document_id NOT IN ' || documents),
    ('kb_points', 'document_id NOT IN ' || documents),
    ('kb_texts', 'document_id NOT IN ' || documents),
    ('kb_versions', 'document_id NOT IN ' || documents),
    ('kb_terms', 'chunk_id NOT IN ' || passages),
    ('kb_vectors', 'chunk_id NOT IN ' || passages),
    -- Few rows of these tables are read at once, each by its key.
    ('kb_passages', 'EXISTS (SELECT FROM public.kb_chunks c
       WHERE c.tenant_id = kb_passages.tenant_id AND c.id = kb_passages.chunk_id)'),
    ('kb_jobs', '(labels IS NULL OR ' || labelled || ') AND source NOT IN ' || sources),
    ('kb_uploads', 'EXISTS (SELECT FROM public.kb_jobs j
       WHERE j.tenant_id = kb_uploads.tenant_id AND j.id = kb_uploads.job_id)'),
    ('artifact_files', labelled),
    ('artifact_pieces', 'EXISTS (SELECT FROM public.artifact_files f
       WHERE f.tenant_id = artifact_pieces.tenant_id AND f.id = artifact_pieces.file_id)'))
    v (name, condition)
  LOOP
    EXECUTE format('CREATE POLICY labels_granted ON public.%I AS RESTRICTIVE TO konstruct_app USING (%s OR %s)',
      p.name, sees_all, p.condition);
  END LOOP;
  -- A writer can't set labels that it does not have, or enqueue a document for somebody with more labels.
  FOR p IN SELECT * FROM (VALUES
    ('kb_sources', 'labels'), ('artifact_files', 'labels'), ('kb_jobs', '(coalesce(labels, ''{}'') || sees)'))
    v (name, given)
  LOOP
    EXECUTE format('CREATE POLICY labels_given ON public.%I AS RESTRICTIVE FOR INSERT TO konstruct_app
      WITH CHECK (%s OR %s <@ (SELECT public.kb_granted()))', p.name, sees_all, p.given);
  END LOOP;
END $hide$;
CREATE TRIGGER labels_given BEFORE UPDATE ON public.kb_sources FOR EACH ROW
  WHEN (NEW.labels IS DISTINCT FROM OLD.labels) EXECUTE FUNCTION public.kb_labels_given();
CREATE TRIGGER labels_given BEFORE UPDATE ON public.artifact_files FOR EACH ROW
  WHEN (NEW.labels IS DISTINCT FROM OLD.labels) EXECUTE FUNCTION public.kb_labels_given();
CREATE TRIGGER labels_given BEFORE UPDATE ON public.kb_jobs FOR EACH ROW
  WHEN (NEW.labels IS DISTINCT FROM OLD.labels OR NEW.sees IS DISTINCT FROM OLD.sees)
  EXECUTE FUNCTION public.kb_labels_given();
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DO $show$
DECLARE p record;
BEGIN
  FOR p IN SELECT polrelid::regclass AS name, polname FROM pg_policy
            WHERE polname IN ('labels_granted', 'labels_given') LOOP
    EXECUTE format('DROP POLICY %I ON %s', p.polname, p.name);
  END LOOP;
END $show$;
-- +goose StatementEnd
DROP TRIGGER labels_given ON public.kb_sources;
DROP TRIGGER labels_given ON public.artifact_files;
DROP TRIGGER labels_given ON public.kb_jobs;
DROP FUNCTION public.kb_labels_given, public.kb_hidden_passages, public.kb_hidden_sources,
  public.kb_hidden_documents, public.kb_owned, public.kb_granted;
