-- In how many seconds something of tenant $1 expires next: a collection, a file, an upload; 0 for documents of files
-- that are in no collection any more. NULL where nothing does.
SELECT extract(epoch FROM least(
         (SELECT min(c.last_active_at + c.expires_days * interval '1 day') FROM kb_collections c
           WHERE c.tenant_id = $1 AND c.expires_days IS NOT NULL AND NOT c.expired),
         (SELECT min(f.expires_at) FROM kb_files f WHERE f.tenant_id = $1 AND f.expires_at IS NOT NULL),
         (SELECT min(u.expires_at) FROM kb_file_uploads u WHERE u.tenant_id = $1 AND u.state = 'pending'),
         (SELECT now() WHERE EXISTS (
            SELECT FROM kb_sources s
             WHERE s.tenant_id = $1 AND starts_with(s.source, 'konstruct:file/')
               AND NOT EXISTS (SELECT FROM kb_collection_documents e
                                WHERE e.tenant_id = $1 AND e.document_id = s.document_id))))
       - now())::float8
