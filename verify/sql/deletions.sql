-- The acts of retention that deleted leaves among [$2, $3) of tenant $1's log, and whether the event that records each
-- says the same.
SELECT g.first, g.bits, g.record_id,
       EXISTS (SELECT
                 FROM audit_events a
                WHERE a.tenant_id = g.tenant_id AND a.id = g.record_id AND a.action_type = 'retention'
                  AND a.metadata->'first_leaf' = to_jsonb(g.first)
                  AND a.metadata->>'leaves' = translate(encode(g.bits, 'base64'), E'\n', ''))
  FROM audit_gone g
 WHERE g.tenant_id = $1 AND g.first < $3 AND g.first + 8 * octet_length(g.bits) > $2
 ORDER BY g.first, g.record_id
