-- The documents of tenant $1; conditions and an order follow.
SELECT d.id, d.agent_id, coalesce(d.filename, ''), coalesce(s.source, d.source_url, ''),
       coalesce(d.content_type, ''), coalesce(s.title, ''), coalesce(s.metadata, '{}'), coalesce(s.bytes, 0),
       coalesce(encode(s.content_sha256, 'hex'), ''),
       (SELECT count(*) FROM kb_chunks c WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id),
       coalesce(s.ingested_at, d.created_at), coalesce(s.version, 1), coalesce(s.labels, '{}'),
       coalesce(s.given, '{}'), coalesce(s.language, 'simple'),
       coalesce(s.chunking, '{}')
  FROM kb_documents d
  LEFT JOIN kb_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.id
 WHERE d.tenant_id = $1
