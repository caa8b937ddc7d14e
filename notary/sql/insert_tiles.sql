-- Stores new full tiles, a column an argument. Only tiles of events' leaves have a segment, a transaction and events.
INSERT INTO audit_tiles (tenant_id, level, tile, hashes, root, segment, xid, event_id, event_ids)
SELECT tenant, level, tile, hashes, root, segment, xid::xid8, CASE WHEN segment IS NOT NULL THEN event END, event_ids
  FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::integer[], $7::text[],
              $8::uuid[], $9::bytea[])
       u (tenant, level, tile, hashes, root, segment, xid, event, event_ids)
