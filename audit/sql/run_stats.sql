-- Counts a run's events one by one. $1 is the tenant, $2 the run and the traces that it names, $3 the limit, $4 further
-- events, $5 and $6 the range of created_at (end exclusive). Numbers that are not sensible count as zero or as unsaid,
-- as in audit_figures.
SELECT e.id, CASE WHEN isfinite(e.created_at) THEN (e.created_at AT TIME ZONE 'UTC')::date END, e.agent_id,
       e.metadata->>'gen_ai.request.model', e.action_type, e.metadata ? 'error.type',
       CASE WHEN jsonb_typeof(e.i) = 'number' AND e.i::numeric BETWEEN 0 AND 1e9 THEN e.i::numeric::bigint ELSE 0 END,
       CASE WHEN jsonb_typeof(e.o) = 'number' AND e.o::numeric BETWEEN 0 AND 1e9 THEN e.o::numeric::bigint ELSE 0 END,
       e.latency_ms,
       CASE WHEN jsonb_typeof(e.c) = 'number' AND e.c::numeric BETWEEN 0 AND 1e9 THEN e.c::numeric::float8 END,
       CASE WHEN e.of ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN e.of::uuid END,
       CASE WHEN jsonb_typeof(e.r) = 'number' AND e.r::numeric BETWEEN 0 AND 1e9 THEN e.r::numeric::float8 END
  FROM (SELECT *, metadata->'gen_ai.usage.input_tokens' AS i, metadata->'gen_ai.usage.output_tokens' AS o,
               metadata->'gen_ai.usage.cost' AS c, metadata->>'konstruct.completes' AS of,
               metadata->'record'->'gen_ai.usage.cost' AS r
          FROM audit_events
         WHERE tenant_id = $1
           AND (id IN (SELECT audit_find_run(n, $3) FROM unnest($2::text[]) n) OR id = ANY ($4))
           AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6)
         LIMIT $3) e
