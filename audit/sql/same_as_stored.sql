-- Reports whether the stored event $1 of tenant $2 has this content: $3 to $10 are its other columns, in the table's
-- order. An erased field is not compared, so that a late retry of the same event succeeds.
SELECT (agent_id IS NOT DISTINCT FROM $3::uuid OR 1 = ANY (erased))
   AND (user_id IS NOT DISTINCT FROM $4::text OR 2 = ANY (erased))
   AND action_type = $5::text
   AND (input_summary IS NOT DISTINCT FROM $6::text OR 4 = ANY (erased))
   AND (output_summary IS NOT DISTINCT FROM $7::text OR 5 = ANY (erased))
   AND (latency_ms IS NOT DISTINCT FROM $8::int OR 6 = ANY (erased))
   AND (metadata = $9::jsonb OR 7 = ANY (erased))
   AND created_at = coalesce($10::timestamptz, created_at)
  FROM audit_events,
       LATERAL (SELECT coalesce(array_agg(field), '{}')
                  FROM audit_erasures x
                 WHERE x.tenant_id = $2::uuid AND x.event_id = $1::uuid) x (erased)
 WHERE id = $1::uuid AND tenant_id = $2::uuid
