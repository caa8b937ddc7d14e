-- Lists a tenant's escalations with their states, newest first. $1 is the tenant, $2 and $3 the range of the opening
-- (end exclusive), $4 and $5 the cursor's position, $6 the state or '', $7 the limit.
--
-- The ids of its acknowledgement and resolution are computed as in escalationStepID: UUIDv8 of SHA-256. OFFSET 0 makes
-- the id a plain value, so that the join may use the primary key under row-level security.
SELECT *
  FROM (SELECT e.id,
               CASE WHEN r.id IS NOT NULL THEN 'resolved'
                    WHEN a.id IS NOT NULL THEN 'acknowledged'
                    ELSE 'open' END AS state,
               e.agent_id, e.user_id, e.input_summary, e.output_summary, e.metadata->>'konstruct.escalation.to',
               e.created_at AS opened, a.created_at, a.user_id, r.created_at, r.user_id, r.output_summary
          FROM (SELECT *
                  FROM audit_events
                 WHERE tenant_id = $1 AND action_type = 'escalation'
                   AND ($2::timestamptz IS NULL OR created_at >= $2)
                   AND ($3::timestamptz IS NULL OR created_at < $3)
                   AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
                 ORDER BY created_at DESC, id DESC) e
         CROSS JOIN LATERAL
               (SELECT encode(set_byte(set_byte(substr(h, 1, 16), 6, get_byte(h, 6) & 15 | 128),
                                       8, get_byte(h, 8) & 63 | 128), 'hex')::uuid AS id
                  FROM (SELECT sha256(uuid_send(e.id) || 'escalation_acknowledged'::bytea)) s (h) OFFSET 0) acknowledged
         CROSS JOIN LATERAL
               (SELECT encode(set_byte(set_byte(substr(h, 1, 16), 6, get_byte(h, 6) & 15 | 128),
                                       8, get_byte(h, 8) & 63 | 128), 'hex')::uuid AS id
                  FROM (SELECT sha256(uuid_send(e.id) || 'escalation_resolved'::bytea)) s (h) OFFSET 0) resolved
          LEFT JOIN audit_events a
            ON a.tenant_id = $1 AND a.id = acknowledged.id AND a.action_type = 'escalation_acknowledged'
          LEFT JOIN audit_events r
            ON r.tenant_id = $1 AND r.id = resolved.id AND r.action_type = 'escalation_resolved') c
 WHERE $6 = '' OR state = $6
 ORDER BY opened DESC, id DESC
 LIMIT $7
