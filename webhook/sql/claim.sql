-- Claims deliveries of a tenant ($1) that are due, or whose worker died, at most $2, and of an endpoint so many that $3
-- run at one time: one alone while the endpoint fails. The claim holds for $4. Each is noted as an attempt.
WITH open AS (
  SELECT e.id, e.url, CASE WHEN e.failing_since IS NULL THEN $3::integer ELSE 1 END
      - (SELECT count(*) FROM webhook_deliveries r
          WHERE r.tenant_id = $1 AND r.endpoint_id = e.id AND r.state = 'running' AND r.due > now()) AS room
    FROM webhook_endpoints e WHERE e.tenant_id = $1 AND e.enabled),
due AS (
  SELECT d.* FROM open o CROSS JOIN LATERAL (
    SELECT w.endpoint_id, w.message_id FROM webhook_deliveries w
     WHERE w.tenant_id = $1 AND w.endpoint_id = o.id AND w.state IN ('queued', 'running') AND w.due <= now()
     ORDER BY w.due LIMIT greatest(o.room, 0) FOR UPDATE SKIP LOCKED) d
   LIMIT $2),
claimed AS (
  UPDATE webhook_deliveries d
     SET state = 'running', due = now() + $4::interval, attempts = d.attempts + 1, tries = d.tries + 1
    FROM due WHERE d.tenant_id = $1 AND d.endpoint_id = due.endpoint_id AND d.message_id = due.message_id
  RETURNING d.endpoint_id, d.message_id, d.attempts, d.tries),
noted AS (
  INSERT INTO webhook_attempts (tenant_id, endpoint_id, message_id, attempt)
  SELECT $1, c.endpoint_id, c.message_id, c.attempts FROM claimed c),
died AS (
  UPDATE webhook_attempts a SET error = 'the worker that sent it died' FROM claimed c
   WHERE a.tenant_id = $1 AND a.endpoint_id = c.endpoint_id AND a.message_id = c.message_id
     AND a.attempt = c.attempts - 1 AND a.finished_at IS NULL),
forgotten AS (
  DELETE FROM webhook_attempts a USING claimed c
   WHERE a.tenant_id = $1 AND a.endpoint_id = c.endpoint_id AND a.message_id = c.message_id
     AND a.attempt <= c.attempts - $5::integer)
SELECT c.endpoint_id, c.message_id, c.attempts, c.tries, o.url, m.type, m.at, m.data,
       (SELECT array_agg(s.sealed ORDER BY s.created_at DESC) FROM webhook_secrets s
         WHERE s.tenant_id = $1 AND s.endpoint_id = c.endpoint_id AND (s.expires_at IS NULL OR s.expires_at > now()))
  FROM claimed c JOIN open o ON o.id = c.endpoint_id
  JOIN webhook_messages m ON m.tenant_id = $1 AND m.id = c.message_id
