-- How a document is split into chunks: by its structure, or into windows of so many tokens, which may be larger than
-- the model's input. The model reads such a chunk in pieces: the first piece's vector is the chunk's own, and each
-- further one has a row of kb_points, by which searches find the chunk.
-- +goose Up
-- +goose StatementBegin
ALTER TABLE public.kb_sources ADD COLUMN chunking jsonb NOT NULL DEFAULT '{}'
  CHECK (jsonb_typeof(chunking) = 'object');
ALTER TABLE public.kb_sources ALTER COLUMN chunking SET STATISTICS 0;
COMMENT ON COLUMN public.kb_sources.chunking IS
  'how it is split: max_tokens and overlap_tokens of windows, or {}, by its structure';
ALTER TABLE public.kb_jobs ADD COLUMN chunking jsonb;
ALTER TABLE public.kb_jobs ALTER COLUMN chunking SET STATISTICS 0;
COMMENT ON COLUMN public.kb_jobs.chunking IS 'as that of kb_sources; where it is NULL that stays as it is';

-- A piece is another row, not another column or table: the primary key, and scans of it alone, stay as they are. Its
-- chunk_id is its own. It is no passage that could be equal to another, so it has no hash of a text.
ALTER TABLE public.kb_points ADD COLUMN piece_of uuid;
ALTER TABLE public.kb_points ALTER COLUMN text_hash DROP NOT NULL;
ALTER TABLE public.kb_points ADD CONSTRAINT kb_points_piece
  CHECK ((piece_of IS NULL) = (text_hash IS NOT NULL)) NOT VALID; -- it holds for all rows, which have no piece
CREATE INDEX ix_kb_points_piece ON public.kb_points (tenant_id, piece_of) WHERE piece_of IS NOT NULL;
COMMENT ON COLUMN public.kb_points.piece_of IS
  'the passage that this is a piece of; NULL for a passage''s own row, with the vector of the whole or the first piece';
COMMENT ON COLUMN public.kb_points.text_hash IS
  'of the passage''s text: equal passages are found by it; NULL for a piece';

-- As in 00010_search.sql, and pieces go with their passage.
CREATE OR REPLACE FUNCTION public.kb_read_passages() RETURNS trigger
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
       USING (SELECT g.chunk_id, r.term FROM gone g, public.kb_read(g.language, g.content) r
              UNION ALL SELECT g.chunk_id, '' FROM gone g) w
       WHERE t.tenant_id = tenant AND t.term = w.term COLLATE "C" AND t.chunk_id = w.chunk_id;
      IF NOT EXISTS (SELECT FROM public.kb_points p WHERE p.tenant_id = tenant AND p.piece_of IS NOT NULL) THEN
        NULL;
      ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM public.kb_points p USING old_chunks o
         WHERE p.tenant_id = tenant AND o.tenant_id = tenant AND p.piece_of = o.id;
      ELSE -- pieces stay what they were while the passage says the same
        DELETE FROM public.kb_points p USING old_chunks o
         WHERE p.tenant_id = tenant AND o.tenant_id = tenant AND p.piece_of = o.id
           AND NOT EXISTS (SELECT FROM new_chunks n
                            WHERE n.tenant_id = o.tenant_id AND n.id = o.id AND n.document_id = o.document_id
                              AND n.content = o.content AND n.embedding IS NOT DISTINCT FROM o.embedding);
      END IF;
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', before, TRUE); END IF;
    END LOOP;
  END IF;
  IF TG_OP IN ('UPDATE', 'INSERT') THEN
    INSERT INTO public.kb_points (tenant_id, document_id, chunk_id, language, half, text_hash)
    SELECT c.tenant_id, c.document_id, c.id, coalesce(s.language, 'simple'),
           CASE WHEN vector_norm(c.embedding) > 0 THEN l2_normalize(c.embedding)::halfvec(384) END,
           hashtextextended(c.content, 0)
      FROM new_chunks c LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id;
    INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length, tail)
    SELECT p.tenant_id, p.term, p.chunk_id, p.times, p.length, p.tail
      FROM (SELECT c.tenant_id, c.id AS chunk_id, c.content, coalesce(s.language, 'simple') AS language
              FROM new_chunks c
              LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id) c,
           public.kb_postings(c.tenant_id, c.chunk_id, c.language, c.content) p
     ORDER BY 1, 2, 3;
  END IF;
  RETURN NULL;
END $read$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
-- Without its pieces a passage is found by its beginning alone. Under forced row-level security the owner sees no rows,
-- so it is lifted, only within this transaction.
ALTER TABLE public.kb_points NO FORCE ROW LEVEL SECURITY;
DELETE FROM public.kb_points WHERE piece_of IS NOT NULL;
ALTER TABLE public.kb_points FORCE ROW LEVEL SECURITY;
CREATE OR REPLACE FUNCTION public.kb_read_passages() RETURNS trigger
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
       USING (SELECT g.chunk_id, r.term FROM gone g, public.kb_read(g.language, g.content) r
              UNION ALL SELECT g.chunk_id, '' FROM gone g) w
       WHERE t.tenant_id = tenant AND t.term = w.term COLLATE "C" AND t.chunk_id = w.chunk_id;
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', before, TRUE); END IF;
    END LOOP;
  END IF;
  IF TG_OP IN ('UPDATE', 'INSERT') THEN
    INSERT INTO public.kb_points (tenant_id, document_id, chunk_id, language, half, text_hash)
    SELECT c.tenant_id, c.document_id, c.id, coalesce(s.language, 'simple'),
           CASE WHEN vector_norm(c.embedding) > 0 THEN l2_normalize(c.embedding)::halfvec(384) END,
           hashtextextended(c.content, 0)
      FROM new_chunks c LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id;
    INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length, tail)
    SELECT p.tenant_id, p.term, p.chunk_id, p.times, p.length, p.tail
      FROM (SELECT c.tenant_id, c.id AS chunk_id, c.content, coalesce(s.language, 'simple') AS language
              FROM new_chunks c
              LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id) c,
           public.kb_postings(c.tenant_id, c.chunk_id, c.language, c.content) p
     ORDER BY 1, 2, 3;
  END IF;
  RETURN NULL;
END $read$;
DROP INDEX public.ix_kb_points_piece;
ALTER TABLE public.kb_points DROP CONSTRAINT kb_points_piece, DROP COLUMN piece_of,
  ALTER COLUMN text_hash SET NOT NULL;
ALTER TABLE public.kb_sources DROP COLUMN chunking;
ALTER TABLE public.kb_jobs DROP COLUMN chunking;
-- +goose StatementEnd
