-- How the terms $2 are written in a chunk of tenant $1 each, or in its headings, in the order given.
SELECT coalesce((SELECT p.part
                   FROM (SELECT t.chunk_id FROM kb_terms t
                          WHERE t.tenant_id = $1 AND t.term = w.term COLLATE "C" LIMIT 1) t,
                        LATERAL (SELECT concat_ws(' ', c.content, array_to_string(p.headings, ' ')) AS content,
                                        coalesce(s.language, 'simple') AS language
                                   FROM kb_chunks c
                                   LEFT JOIN kb_passages p ON p.tenant_id = $1 AND p.chunk_id = c.id
                                   LEFT JOIN kb_sources s ON s.tenant_id = $1 AND s.document_id = c.document_id
                                  WHERE c.tenant_id = $1 AND c.id = t.chunk_id) c,
                        kb_tokens(c.content) k, kb_parts(k.token) p
                  WHERE p.kind = 'w'
                    AND w.term IN (kb_fold(p.part), kb_term(c.language, kb_dictionary(c.language), p.part))
                  ORDER BY k.n LIMIT 1), w.term)
  FROM unnest($2::text[]) WITH ORDINALITY w (term, n)
 ORDER BY w.n
