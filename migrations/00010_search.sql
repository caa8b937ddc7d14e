-- What searches read. Triggers derive it from each passage, whoever writes it: its vector for the index, its words, and
-- how a tenant's vectors are searched.
--
-- Under row-level security a GIN index on words can't be used, because @@ is not leakproof. So postings are rows, found
-- by a key that begins with the tenant, and ranking uses only the tenant's own word statistics.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.kb_points (
  tenant_id   uuid NOT NULL,
  document_id uuid NOT NULL,
  chunk_id    uuid NOT NULL,
  language    text NOT NULL,
  half        halfvec(384),
  PRIMARY KEY (tenant_id, document_id, chunk_id) INCLUDE (half)
);
COMMENT ON TABLE public.kb_points IS
  'each passage''s vector at length 1 and half the precision, in an index that a search of one tenant, '
  'or of some documents, reads alone';
COMMENT ON COLUMN public.kb_points.half IS 'NULL where the vector has no length: nothing is near it';

CREATE TABLE public.kb_terms (
  tenant_id uuid     NOT NULL,
  term      text     COLLATE "C" NOT NULL,
  chunk_id  uuid     NOT NULL,
  times     smallint NOT NULL,
  length    integer  NOT NULL,
  PRIMARY KEY (tenant_id, term, chunk_id) INCLUDE (times, length)
);
COMMENT ON TABLE public.kb_terms IS
  'which passage has which word how often, and how many words it has; the empty term is in each';

CREATE TABLE public.kb_tiers (
  tenant_id uuid        NOT NULL,
  model     text        NOT NULL,
  chunks    integer     NOT NULL,
  built_at  timestamptz,
  ef_search integer     NOT NULL DEFAULT 100 CHECK (ef_search BETWEEN 1 AND 1000),
  recall    real,
  queries   integer,
  tuned_at  timestamptz,
  trouble   text        NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, model)
);
COMMENT ON TABLE public.kb_tiers IS
  'how a tenant''s passages are searched: what was decided and measured of its own index, where it has one';
COMMENT ON COLUMN public.kb_tiers.model IS 'empty for the first';

-- An index-only scan needs pages that are marked all-visible, so vacuum soon after inserts.
ALTER TABLE public.kb_points SET (
  autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.02,
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE public.kb_terms SET (
  autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0.02,
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE public.kb_chunks SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Only the text's beginning is indexed, up to a length that always fits. The rest is found by its vector.
CREATE FUNCTION public.kb_words(language text, content text) RETURNS tsvector
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  RETURN to_tsvector(language::regconfig, left(content, 100000));

-- What is derived from passages. If a superuser deletes documents without a tenant set, the foreign keys delete the
-- passages as the owner, who under forced row-level security sees no derived rows. So the tenant is set while those are
-- deleted.
CREATE FUNCTION public.kb_read_passages() RETURNS trigger
  LANGUAGE plpgsql SET search_path FROM CURRENT AS $read$
DECLARE tenant uuid; before text := coalesce(current_setting('app.current_tenant', TRUE), '');
BEGIN
  IF TG_OP IN ('UPDATE', 'DELETE') THEN
    FOR tenant IN SELECT DISTINCT o.tenant_id FROM old_chunks o LOOP
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', tenant::text, TRUE); END IF;
      WITH gone AS (
        DELETE FROM public.kb_points p USING old_chunks o
         WHERE p.tenant_id = tenant AND o.tenant_id = tenant AND p.document_id = o.document_id AND p.chunk_id = o.id
        RETURNING p.chunk_id, p.language, o.content)
      DELETE FROM public.kb_terms t
       USING gone g, unnest(array_append(tsvector_to_array(public.kb_words(g.language, g.content)), '')) w (term)
       WHERE t.tenant_id = tenant AND t.term = w.term COLLATE "C" AND t.chunk_id = g.chunk_id;
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', before, TRUE); END IF;
    END LOOP;
  END IF;
  IF TG_OP IN ('UPDATE', 'INSERT') THEN
    INSERT INTO public.kb_points (tenant_id, document_id, chunk_id, language, half)
    SELECT c.tenant_id, c.document_id, c.id, coalesce(s.language, 'simple'),
           CASE WHEN vector_norm(c.embedding) > 0 THEN l2_normalize(c.embedding)::halfvec(384) END
      FROM new_chunks c LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id;
    WITH read AS MATERIALIZED (
      SELECT c.tenant_id, c.id, public.kb_words(coalesce(s.language, 'simple'), c.content) AS words
        FROM new_chunks c LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id),
    counted AS MATERIALIZED (
      SELECT r.*, coalesce((SELECT sum(cardinality(w.positions)) FROM unnest(r.words) w), 0)::integer AS length
        FROM read r)
    INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length)
    SELECT c.tenant_id, w.lexeme, c.id, cardinality(w.positions), c.length FROM counted c, unnest(c.words) w
    UNION ALL SELECT c.tenant_id, '', c.id, 1, c.length FROM counted c
    ORDER BY 1, 2, 3;
  END IF;
  RETURN NULL;
END $read$;
CREATE TRIGGER kb_read_inserted AFTER INSERT ON public.kb_chunks
  REFERENCING NEW TABLE AS new_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_passages();
CREATE TRIGGER kb_read_updated AFTER UPDATE ON public.kb_chunks
  REFERENCING OLD TABLE AS old_chunks NEW TABLE AS new_chunks
  FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_passages();
CREATE TRIGGER kb_read_deleted AFTER DELETE ON public.kb_chunks
  REFERENCING OLD TABLE AS old_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_passages();

CREATE FUNCTION public.kb_forget_all() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $forget$
BEGIN
  TRUNCATE public.kb_points, public.kb_terms;
  RETURN NULL;
END $forget$;
CREATE TRIGGER kb_read_truncated AFTER TRUNCATE ON public.kb_chunks
  FOR EACH STATEMENT EXECUTE FUNCTION public.kb_forget_all();

-- Schedules the creation or drop of the tenant's own index, if it is due, some time after its passages changed. The
-- lock, shared with writers of passages, keeps a ticket from being deleted before changes that it can't see yet are
-- committed. As in kb_wake, only READ COMMITTED shows whether a ticket is still there; otherwise one more is inserted.
-- A write without a tenant, or of another tenant, schedules nothing.
CREATE FUNCTION public.kb_wake_index(tenant uuid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
BEGIN
  IF tenant IS DISTINCT FROM NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid THEN RETURN; END IF;
  PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct indexes ' || tenant, 0));
  IF current_setting('transaction_isolation') <> 'read committed' OR NOT EXISTS (
    SELECT FROM public.river_job r WHERE r.tenant_id = tenant AND r.queue = 'indexes' AND r.finalized_at IS NULL) THEN
    INSERT INTO public.river_job (kind, queue, args, state, scheduled_at)
    VALUES ('tenant', 'indexes', jsonb_build_object('tenant', tenant), 'scheduled', now() + interval '10 seconds');
  END IF;
END $wake$;

CREATE FUNCTION public.kb_passages_came() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $came$
BEGIN
  PERFORM public.kb_wake_index(t.tenant_id) FROM (SELECT DISTINCT n.tenant_id FROM new_chunks n) t;
  RETURN NULL;
END $came$;
CREATE FUNCTION public.kb_passages_went() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $went$
BEGIN
  PERFORM public.kb_wake_index(t.tenant_id) FROM (SELECT DISTINCT o.tenant_id FROM old_chunks o) t;
  RETURN NULL;
END $went$;
CREATE TRIGGER kb_wake_inserted AFTER INSERT ON public.kb_chunks
  REFERENCING NEW TABLE AS new_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_passages_came();
CREATE TRIGGER kb_wake_deleted AFTER DELETE ON public.kb_chunks
  REFERENCING OLD TABLE AS old_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_passages_went();

-- Existing passages, read as in kb_read_passages. Under forced row-level security the owner sees no rows, so it is
-- lifted, only within this transaction.
ALTER TABLE public.kb_chunks NO FORCE ROW LEVEL SECURITY;
ALTER TABLE public.kb_sources NO FORCE ROW LEVEL SECURITY;
INSERT INTO public.kb_points (tenant_id, document_id, chunk_id, language, half)
SELECT c.tenant_id, c.document_id, c.id, coalesce(s.language, 'simple'),
       CASE WHEN vector_norm(c.embedding) > 0 THEN l2_normalize(c.embedding)::halfvec(384) END
  FROM public.kb_chunks c
  LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id;
INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length)
WITH counted AS MATERIALIZED (
  SELECT r.*, coalesce((SELECT sum(cardinality(w.positions)) FROM unnest(r.words) w), 0)::integer AS length
    FROM (SELECT c.tenant_id, c.id, public.kb_words(coalesce(s.language, 'simple'), c.content) AS words
            FROM public.kb_chunks c
            LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id) r)
SELECT c.tenant_id, w.lexeme, c.id, cardinality(w.positions), c.length FROM counted c, unnest(c.words) w
UNION ALL SELECT c.tenant_id, '', c.id, 1, c.length FROM counted c;
ALTER TABLE public.kb_chunks FORCE ROW LEVEL SECURITY;
ALTER TABLE public.kb_sources FORCE ROW LEVEL SECURITY;

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'kb_points', 'kb_terms', 'kb_tiers');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.kb_points, public.kb_terms, public.kb_tiers TO konstruct_app;
REVOKE ALL ON FUNCTION public.kb_words, public.kb_read_passages, public.kb_forget_all, public.kb_wake_index,
  public.kb_passages_came, public.kb_passages_went FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.kb_words, public.kb_wake_index TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER kb_read_inserted ON public.kb_chunks;
DROP TRIGGER kb_read_updated ON public.kb_chunks;
DROP TRIGGER kb_read_deleted ON public.kb_chunks;
DROP TRIGGER kb_read_truncated ON public.kb_chunks;
DROP TRIGGER kb_wake_inserted ON public.kb_chunks;
DROP TRIGGER kb_wake_deleted ON public.kb_chunks;
DROP FUNCTION public.kb_words, public.kb_read_passages, public.kb_forget_all, public.kb_wake_index,
  public.kb_passages_came, public.kb_passages_went;
DROP TABLE public.kb_points, public.kb_terms, public.kb_tiers;
ALTER TABLE public.kb_chunks RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
-- Under forced row-level security the owner sees no tickets, so it is lifted, only within this transaction.
ALTER TABLE public.river_job NO FORCE ROW LEVEL SECURITY;
DELETE FROM public.river_job WHERE queue = 'indexes';
ALTER TABLE public.river_job FORCE ROW LEVEL SECURITY;
