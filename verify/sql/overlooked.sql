-- The seals of tenant $1 that should stand in its log and do not: sealed no later than the position ($2, $3, $4), its
-- epoch, transaction and event.
SELECT event_id, recorded_at
  FROM audit_seals s
 WHERE tenant_id = $1
   AND (epoch < $2 OR epoch = $2 AND (xid, event_id) <= ($3::text::xid8, $4))
   AND event_id NOT IN (
         SELECT encode(substr(ids, n * 16 + 1, 16), 'hex')::uuid
           FROM (SELECT event_ids AS ids FROM audit_tiles WHERE tenant_id = $1 AND level = 0
                 UNION ALL
                 SELECT added_ids FROM audit_heads WHERE tenant_id = $1) i,
                generate_series(0, octet_length(ids) / 16 - 1) n)
