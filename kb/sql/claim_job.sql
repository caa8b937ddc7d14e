-- Claims a job of tenant $1 for the lease time $2: the one that is due for longest, or else one whose lease has run
-- out. A job that another worker is claiming is skipped.
WITH due AS (
       SELECT id FROM kb_jobs
        WHERE tenant_id = $1 AND state = 'queued' AND due <= now()
        ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED),
     left_alone AS (
       SELECT id FROM kb_jobs
        WHERE tenant_id = $1 AND state = 'running' AND due <= now() AND NOT EXISTS (SELECT FROM due)
        ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE kb_jobs j
   SET state = 'running', attempt = attempt + 1, due = now() + $2::interval, started_at = now(), chunks = 0,
       embedded = 0
  FROM (SELECT id FROM due UNION ALL SELECT id FROM left_alone) n
 WHERE j.tenant_id = $1 AND j.id = n.id
RETURNING j.id, j.agent_id, j.attempt, j.source, j.filename, j.labels, j.given, j.chunking, j.etag,
          j.leaf, j.seq, j.sees, j.collections, j.attributes, j.file_id,
          CASE WHEN j.file_id IS NULL
               THEN (SELECT u.content FROM kb_uploads u WHERE u.tenant_id = $1 AND u.job_id = j.id)
               ELSE (SELECT string_agg(p.content, ''::bytea ORDER BY t.position, p.start)
                       FROM kb_file_parts t
                       JOIN kb_file_pieces p ON p.tenant_id = t.tenant_id AND p.part_id = t.id
                      WHERE t.tenant_id = $1 AND t.file_id = j.file_id) END
