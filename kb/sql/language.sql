-- Of languages $2, the default one of tenant $1, which is set or else that of most of a sample of its documents that
-- are evidently in a language, or empty; those that have a list of stop words; and how many words of text $3 are on
-- each list.
SELECT coalesce(
         (SELECT s.language FROM kb_settings s WHERE s.tenant_id = $1::uuid AND s.language = ANY ($2::text[])),
         (SELECT s.language
            FROM (SELECT s.language, s.evident FROM kb_sources s WHERE s.tenant_id = $1 LIMIT 200) s
           WHERE s.evident AND s.language = ANY ($2::text[]) AND s.language <> 'simple'
           GROUP BY s.language ORDER BY count(*) DESC, s.language LIMIT 1), ''),
       coalesce(array_agg(l.language), '{}'), coalesce(array_agg(l.words), '{}')
  FROM (SELECT l.language, (SELECT count(*) FROM kb_tokens($3::text) t
                             WHERE ts_lexize(kb_dictionary(l.language), lower(t.token)) = '{}') AS words
          FROM unnest($2::text[]) l (language)
         WHERE l.language IN ('danish', 'dutch', 'english', 'finnish', 'french', 'german', 'hungarian', 'italian',
           'nepali', 'norwegian', 'portuguese', 'russian', 'spanish', 'swedish', 'turkish')) l
