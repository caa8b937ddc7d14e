-- The oldest transaction that has not ended, in words.
SELECT coalesce(
         (SELECT format('prepared transaction %L in database %s by %s since %s: '
                        || 'COMMIT PREPARED or ROLLBACK PREPARED it', gid, database, owner, prepared)
            FROM pg_prepared_xacts
           WHERE transaction = pg_snapshot_xmin(pg_current_snapshot())::xid),
         (SELECT format('of server process %s, database %s, user %s, since %s', pid, datname, usename, xact_start)
            FROM pg_stat_activity
           WHERE backend_xid = pg_snapshot_xmin(pg_current_snapshot())::xid
           LIMIT 1),
         'unknown')
