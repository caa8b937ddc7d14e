-- The words of question $3 as they are read in languages $2, in order. Of each: what it is (a word, the whole of an
-- identifier, a pair of characters), its terms and those of them that a chunk of tenant $1 has, and the languages of
-- which it is a stop word. Each term is looked up by itself, which LIMIT sees to: joined, all terms would be read.
SELECT q.n, q.kind, q.word, q.terms,
       ARRAY(SELECT t
               FROM unnest(q.terms) t,
                    LATERAL (SELECT FROM kb_terms k WHERE k.tenant_id = $1 AND k.term = t COLLATE "C" LIMIT 1) k),
       q.stops
  FROM kb_question($2::text[], $3::text) q
 ORDER BY q.n, q.kind
