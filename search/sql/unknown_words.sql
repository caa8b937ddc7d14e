-- The words of text $3, read in languages $2, that no chunk of tenant $1 has: of $4 to $5 characters, at most $6.
SELECT w.lexeme
  FROM (SELECT l, w.lexeme FROM unnest($2::text[]) l, unnest(public.kb_words(l, $3::text)) w) w
 WHERE length(w.lexeme) BETWEEN $4::integer AND $5::integer AND w.lexeme ~ '^[[:alpha:]]+$'
 GROUP BY w.lexeme
HAVING NOT EXISTS (SELECT FROM kb_terms t WHERE t.tenant_id = $1 AND t.term = w.lexeme COLLATE "C")
 ORDER BY w.lexeme LIMIT $6::integer
