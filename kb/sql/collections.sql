-- The collections of tenant $1, with what is in them; conditions and an order follow.
SELECT c.id, c.name, c.description, c.labels, c.metadata, coalesce(c.expires_days, 0), c.expired, c.created_at,
       c.last_active_at, e.done, e.bytes, e.open, e.failed, e.cancelled
  FROM kb_collections c,
       LATERAL (SELECT count(*) FILTER (WHERE e.state = 'done') AS done,
                       count(*) FILTER (WHERE e.state IN ('queued', 'running')) AS open,
                       count(*) FILTER (WHERE e.state = 'failed') AS failed,
                       count(*) FILTER (WHERE e.state = 'cancelled') AS cancelled,
                       coalesce(sum(s.bytes), 0)::bigint AS bytes
                  FROM kb_collection_documents e
                  LEFT JOIN kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = e.document_id
                 WHERE e.tenant_id = c.tenant_id AND e.collection_id = c.id) e
 WHERE c.tenant_id = $1
