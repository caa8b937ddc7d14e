-- What is sealed behind a position: $1 its epoch, $2 its transaction, $3 its event. Seals of epochs after $4 are of no
-- known epoch: they are behind all others, and counted apart. $5 is a tenant or NULL, $6 the promised time, $7 how many
-- are counted at most.
SELECT w.n, w.since, w.overdue, u.n, u.since, u.overdue, coalesce(u.epoch, 0)
  FROM (SELECT count(*) AS n, min(recorded_at) AS since,
               count(*) FILTER (WHERE recorded_at < clock_timestamp() - $6::interval) AS overdue
          FROM (SELECT recorded_at
                  FROM audit_seals
                 WHERE (epoch, xid) >= ($1, $2::text::xid8) AND (epoch, xid, event_id) > ($1, $2::text::xid8, $3)
                   AND epoch <= $4 AND ($5::uuid IS NULL OR tenant_id = $5)
                 ORDER BY epoch, xid LIMIT $7) s) w,
       (SELECT count(*) AS n, min(recorded_at) AS since,
               count(*) FILTER (WHERE recorded_at < clock_timestamp() - $6::interval) AS overdue, max(epoch) AS epoch
          FROM (SELECT recorded_at, epoch
                  FROM audit_seals
                 WHERE epoch > $4 AND ($5::uuid IS NULL OR tenant_id = $5)
                 ORDER BY epoch, xid LIMIT $7) s) u
