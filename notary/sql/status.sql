-- This cluster and the one in which the notary's epoch began, the epoch, and the sizes of the super-log ($1 its tenant)
-- that are signed and cosigned.
SELECT c.system_identifier, coalesce(e.system_identifier, c.system_identifier), coalesce(e.epoch, 1),
       coalesce((SELECT max(size) FROM audit_checkpoints WHERE tenant_id = $1), 0),
       coalesce((SELECT max(size) FROM audit_witnesses WHERE tenant_id = $1 AND kind = 'cosignature'), 0)
  FROM pg_control_system() c
  LEFT JOIN (SELECT * FROM audit_epochs WHERE tenant_id = $1 ORDER BY epoch DESC LIMIT 1) e ON true
