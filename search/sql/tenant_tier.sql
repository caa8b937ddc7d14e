-- Whether index $3 of tenant $1 is complete, how far it looks for model $2, and where $4 asks for them the counts of
-- documents and, where $5 does, of hidden ones.
SELECT coalesce((SELECT i.indisvalid AND i.indisready FROM pg_index i
                  WHERE i.indexrelid = to_regclass('public.' || $3::text)), false),
       coalesce((SELECT t.ef_search FROM kb_tiers t WHERE t.tenant_id = $1 AND t.model = $2), 0),
       CASE WHEN $4 THEN (SELECT count(*) FROM kb_documents d WHERE d.tenant_id = $1) ELSE 0 END,
       CASE WHEN $4 AND $5 THEN (SELECT count(*) FROM kb_hidden_documents(kb_granted())) ELSE 0 END
