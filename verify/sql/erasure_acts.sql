-- Returns, for each of some events ($1 their tenants, $2 their ids), the fields whose erasure an act in the trail
-- records: one bit for each field. An act is an event that names the event and the field. Verification of all rows
-- checks that the act itself is sealed.
SELECT k.n, coalesce(bit_or(1 << (x.field - 1)) FILTER (WHERE a.id IS NOT NULL), 0)
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY k (tenant, id, n)
  LEFT JOIN audit_erasures x ON x.tenant_id = k.tenant AND x.event_id = k.id
  LEFT JOIN audit_events a
    ON a.tenant_id = x.tenant_id AND a.id = x.record_id AND a.action_type = 'erasure'
   AND a.metadata @> jsonb_build_object(
         'events', jsonb_build_array(x.event_id),
         'fields', jsonb_build_array(('{agent_id,user_id,action_type,input_summary,output_summary,latency_ms,metadata}'
                                      ::text[])[x.field]))
 GROUP BY k.n
