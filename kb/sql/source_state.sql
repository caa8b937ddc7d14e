-- What is stored of source $2 of tenant $1, beside an upload with content $3, recipe $4, labels $5, metadata $6 and
-- seq $7, chunking $8.
SELECT s.document_id, coalesce(s.content_sha256 = $3 AND s.recipe = $4
                               AND s.chunking = coalesce($8::jsonb, s.chunking), false) AS same,
       coalesce(s.labels = coalesce($5::text[], s.labels) AND s.given = coalesce($6::jsonb, s.given), false),
       coalesce(s.seq > $7, false), coalesce(t.seq >= $7, false), coalesce(s.etag, '') AS etag,
       s.chunking
  FROM (SELECT) one
  LEFT JOIN kb_sources s ON s.tenant_id = $1 AND s.source = $2
  LEFT JOIN kb_tombstones t ON t.tenant_id = $1 AND t.source_sha256 = sha256(convert_to($2, 'UTF8'))
