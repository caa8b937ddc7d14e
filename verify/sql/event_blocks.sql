-- Returns the first and the last block of audit_events with the events of a chunk's first and last block of
-- audit_seals: $1 and $2 are the range of the first block (end exclusive), $3 and $4 of the last.
SELECT coalesce(min((e.ctid::text::point)[0]), 0)::bigint, coalesce(max((e.ctid::text::point)[0]), 0)::bigint
  FROM (SELECT tenant_id, event_id FROM audit_seals WHERE ctid >= $1::text::tid AND ctid < $2::text::tid
        UNION ALL
        SELECT tenant_id, event_id FROM audit_seals WHERE ctid >= $3::text::tid AND ctid < $4::text::tid) s
 CROSS JOIN LATERAL (SELECT ctid FROM audit_events e WHERE e.tenant_id = s.tenant_id AND e.id = s.event_id) e
