-- The compounds of tenant $1 that begin or end with words $2: of each word, by its place, at most $3 of either kind.
SELECT w.n, c.term
  FROM unnest($2::text[]) WITH ORDINALITY w (word, n),
       LATERAL ((SELECT t.term FROM kb_terms t
                  WHERE t.tenant_id = $1 AND t.tail >= reverse(w.word) COLLATE "C"
                    AND t.tail < (reverse(w.word) || chr(1114111)) COLLATE "C" AND length(t.term) >= length(w.word) + 3
                  GROUP BY t.term ORDER BY t.term LIMIT $3::integer)
                UNION
                (SELECT t.term FROM kb_terms t
                  WHERE t.tenant_id = $1 AND t.term >= w.word COLLATE "C"
                    AND t.term < (w.word || chr(1114111)) COLLATE "C" AND t.tail IS NOT NULL
                    AND length(t.term) >= length(w.word) + 3
                  GROUP BY t.term ORDER BY t.term LIMIT $3::integer)) c
