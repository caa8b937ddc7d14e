-- The words of tenant $1 from $2 on and before $3, of $4 to $5 characters, and those of $7 that begin with $8; $6 are
-- looked at. It leaps from one word to the next in the index.
WITH RECURSIVE v AS (
       (SELECT t.term FROM kb_terms t
         WHERE t.tenant_id = $1 AND t.term >= $2::text COLLATE "C" AND t.term < $3::text COLLATE "C"
         ORDER BY t.term LIMIT 1)
       UNION ALL
       SELECT (SELECT t.term FROM kb_terms t
                WHERE t.tenant_id = $1 AND t.term > v.term AND t.term < $3::text COLLATE "C" ORDER BY t.term LIMIT 1)
         FROM v WHERE v.term IS NOT NULL)
SELECT term
  FROM (SELECT term FROM v WHERE term IS NOT NULL LIMIT $6::integer) v
 WHERE length(term) BETWEEN $4::integer AND $5::integer
    OR length(term) BETWEEN $7::integer AND $5::integer AND starts_with(term, $8::text)
