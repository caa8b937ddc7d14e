-- Notes what became of an attempt ($4) of a tenant's ($1) delivery to an endpoint ($2) of a message ($3): its state
-- ($5), in what time it is due again ($6), why ($7), and the response's status ($8) and beginning ($9). A delivery that
-- somebody else claimed meanwhile stays theirs. An attempt that failed by the service's own fault ($10) is no try.
-- Returns since when the endpoint fails, and whether the delivery was still this worker's.
WITH settled AS (
  UPDATE webhook_deliveries d
     SET state = $5, due = now() + $6::interval, reason = $7,
         finished_at = CASE WHEN $5 IN ('delivered', 'dead') THEN now() END,
         tries = CASE WHEN $10 THEN greatest(d.tries - 1, 0) ELSE d.tries END
   WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.message_id = $3 AND d.attempts = $4 AND d.state = 'running'
  RETURNING d.endpoint_id),
noted AS (
  UPDATE webhook_attempts a
     SET finished_at = clock_timestamp(), status = $8, response = $9, error = $7
   WHERE a.tenant_id = $1 AND a.endpoint_id = $2 AND a.message_id = $3 AND a.attempt = $4),
endpoint AS (
  UPDATE webhook_endpoints e SET failing_since = CASE WHEN $5 = 'delivered' THEN NULL ELSE now() END
   WHERE e.tenant_id = $1 AND e.id = $2 AND NOT $10 AND (e.failing_since IS NULL) <> ($5 = 'delivered')
  RETURNING e.failing_since)
SELECT coalesce((SELECT failing_since FROM endpoint),
         (SELECT failing_since FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2)),
       EXISTS (SELECT FROM settled)
