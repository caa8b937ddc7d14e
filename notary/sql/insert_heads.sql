-- Stores new heads, a column an argument. A head of the super-log ($12) names its own transaction.
INSERT INTO audit_heads (tenant_id, size, anchor, root, at, salt, segment, xid, event_id, added, added_ids, own_xid)
SELECT tenant, size, anchor, root, at, salt, segment, xid::xid8, event, added, added_ids,
       CASE WHEN tenant = $12 THEN pg_current_xact_id() END
  FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::bytea[], $7::integer[],
              $8::text[], $9::uuid[], $10::bytea[], $11::bytea[])
       u (tenant, size, anchor, root, at, salt, segment, xid, event, added, added_ids)
