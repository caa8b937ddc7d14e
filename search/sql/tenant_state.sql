-- The model that serves the searches of tenant $1, the languages of its documents, found by leaping from one to the
-- next in the index, and the large collections that have indexes of their own.
WITH RECURSIVE spoken AS (
       (SELECT s.language FROM kb_sources s WHERE s.tenant_id = $1 ORDER BY s.language LIMIT 1)
       UNION ALL
       SELECT (SELECT s.language FROM kb_sources s
                WHERE s.tenant_id = $1 AND s.language > spoken.language ORDER BY s.language LIMIT 1)
         FROM spoken WHERE spoken.language IS NOT NULL)
SELECT coalesce((SELECT m.model FROM kb_models m WHERE m.tenant_id = $1 AND m.serving), ''),
       coalesce((SELECT array_agg(language) FROM spoken WHERE language IS NOT NULL), '{}'),
       coalesce(l.ids, '{}'), coalesce(l.ef_searches, '{}')
  FROM (SELECT array_agg(c.id) AS ids, array_agg(c.ef_search) AS ef_searches
          FROM kb_collections c
         WHERE c.tenant_id = $1 AND c.indexed AND c.ef_search > 0
           AND EXISTS (SELECT FROM pg_index i
                        WHERE i.indisvalid AND i.indisready AND i.indexrelid = to_regclass('public.ix_kb_coll_'
                          || left(replace(c.tenant_id::text, '-', ''), 16) || '_'
                          || replace(c.id::text, '-', '')))) l
