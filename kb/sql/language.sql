-- The default language of tenant $1, which is set or else that of most of a sample of its documents; how many words of
-- text $3 are stop words of language $2, and of the default one; and whether $2 has a list of them.
SELECT u.language,
       (SELECT count(*) FROM kb_tokens($3::text) t WHERE ts_lexize(kb_dictionary($2::text), lower(t.token)) = '{}'),
       (SELECT count(*) FROM kb_tokens($3::text) t WHERE ts_lexize(kb_dictionary(u.language), lower(t.token)) = '{}'),
       $2::text IN ('danish', 'dutch', 'english', 'finnish', 'french', 'german', 'hungarian', 'italian', 'nepali',
         'norwegian', 'portuguese', 'russian', 'spanish', 'swedish', 'turkish')
  FROM (SELECT coalesce(
          (SELECT s.language FROM kb_settings s WHERE s.tenant_id = $1::uuid),
          (SELECT s.language FROM (SELECT s.language FROM kb_sources s WHERE s.tenant_id = $1 LIMIT 200) s
            WHERE s.language <> 'simple' GROUP BY s.language ORDER BY count(*) DESC, s.language LIMIT 1),
          'english')) u (language)
