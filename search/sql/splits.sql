-- Which of the words $3, read in languages $2, a chunk of tenant $1 has: each with its terms there.
SELECT w.n, ARRAY(SELECT DISTINCT t.term
                    FROM unnest($2::text[]) l, kb_term(l, kb_dictionary(l), w.word) t (term),
                         LATERAL (SELECT FROM kb_terms k
                                   WHERE k.tenant_id = $1 AND k.term = t.term COLLATE "C" LIMIT 1) k)
  FROM unnest($3::text[]) WITH ORDINALITY w (word, n)
