-- The provable log over the seals: the order that the notary decided, and what it signed. All tables are append-only.
-- See docs/how-it-works.md and docs/log-format.md.
-- +goose Up
-- +goose StatementBegin

-- Transaction ids are valid only in the cluster that issued them; the epoch identifies that cluster. The current epoch
-- is the constant default of audit_seals.epoch, because the catalog is always read in its current state, not in an old
-- snapshot's, and recovery does not change it. A sequence's value is not reliable after a crash.
CREATE TABLE public.audit_epochs (
  tenant_id         uuid        NOT NULL,
  epoch             smallint    NOT NULL,
  system_identifier bigint      NOT NULL,
  began_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, epoch)
);

-- Returns the current epoch.
CREATE FUNCTION public.audit_epoch_now() RETURNS smallint
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  AS $$SELECT substring(pg_get_expr(d.adbin, d.adrelid) FROM '[0-9]+')::smallint
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = 'public.audit_seals'::regclass AND a.attname = 'epoch'$$;

-- Begins a new epoch if this is not the last epoch's cluster; returns 0 if it is. Writers are blocked while an epoch
-- ends, so all of its seals are there when the function returns.
CREATE FUNCTION public.audit_begin_epoch(operator uuid) RETURNS smallint
  LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $begin$
DECLARE here bigint; last public.audit_epochs; n smallint;
  before text := coalesce(current_setting('konstruct.allow_ddl', true), '');
BEGIN
  IF operator <> '6b6f6e73-7472-8563-8000-000000000000' THEN
    RAISE EXCEPTION 'operator: % is not the super-log''s', operator USING ERRCODE = 'invalid_parameter_value';
  ELSIF NOT pg_has_role(session_user, 'konstruct_notary', 'MEMBER') THEN
    RAISE EXCEPTION 'an epoch is begun by the notary alone' USING ERRCODE = 'insufficient_privilege';
  END IF;
  SELECT system_identifier INTO here FROM pg_control_system();
  SELECT * INTO last FROM public.audit_epochs e WHERE e.tenant_id = operator ORDER BY e.epoch DESC LIMIT 1;
  IF last.system_identifier = here THEN
    RETURN 0;
  ELSIF last.system_identifier IS NULL THEN
    n := public.audit_epoch_now();
  ELSE
    LOCK TABLE public.audit_seals IN ACCESS EXCLUSIVE MODE;
    n := last.epoch + 1;
    PERFORM set_config('konstruct.allow_ddl', 'on', true);
    EXECUTE format('ALTER TABLE public.audit_seals ALTER COLUMN epoch SET DEFAULT %s', n);
    PERFORM set_config('konstruct.allow_ddl', before, true);
  END IF;
  INSERT INTO public.audit_epochs (tenant_id, epoch, system_identifier) VALUES (operator, n, here);
  RETURN n;
END $begin$;

-- Full tiles of every log, 256 hashes wide: level 0 has leaf hashes, level n the roots of level n - 1. A level 0 tile
-- has its events' ids and its last event's position in the order, so an event's index is found by a search over tiles.
CREATE TABLE public.audit_tiles (
  tenant_id uuid     NOT NULL,
  level     smallint NOT NULL,
  tile      bigint   NOT NULL,
  hashes    bytea    NOT NULL CHECK (octet_length(hashes) = 256 * 32),
  root      bytea    NOT NULL CHECK (octet_length(root) = 32),
  segment   integer,
  xid       xid8,
  event_id  uuid,
  event_ids bytea    CHECK (octet_length(event_ids) = 256 * 16),
  PRIMARY KEY (tenant_id, level, tile)
);
CREATE INDEX audit_tiles_order ON public.audit_tiles (tenant_id, segment, xid, event_id) WHERE level = 0;
-- For proofs, which need only the roots of up to 255 tiles that are scattered over the table.
CREATE INDEX audit_tiles_roots ON public.audit_tiles (tenant_id, level, tile) INCLUDE (root);
-- Hashes can't be compressed.
ALTER TABLE public.audit_tiles
  ALTER COLUMN hashes SET STORAGE EXTERNAL, ALTER COLUMN event_ids SET STORAGE EXTERNAL;

-- A log's head after each round that added leaves to it. The leaves of the last, incomplete tile are in added of the
-- heads since the last full tile.
CREATE TABLE public.audit_heads (
  tenant_id  uuid        NOT NULL,
  size       bigint      NOT NULL,
  anchor     bigint      NOT NULL,
  root       bytea       NOT NULL CHECK (octet_length(root) = 32),
  at         timestamptz NOT NULL,
  salt       bytea       NOT NULL,
  segment    integer     NOT NULL,
  xid        xid8        NOT NULL,
  event_id   uuid        NOT NULL,
  added      bytea       NOT NULL,
  added_ids  bytea       NOT NULL,
  own_xid    xid8,
  PRIMARY KEY (tenant_id, size, anchor)
);
COMMENT ON COLUMN public.audit_heads.anchor IS
  'index of this head''s leaf in the super-log; of the super-log''s own heads, of the round''s last leaf';
COMMENT ON COLUMN public.audit_heads.xid IS
  'with segment and event_id, the last leaf''s place in the order; '
  'of the super-log''s heads, how far all seals were read';
COMMENT ON COLUMN public.audit_heads.added IS
  'hashes of the leaves that this head added to the tile that is still open';
COMMENT ON COLUMN public.audit_heads.own_xid IS
  'of the super-log''s heads: the transaction that stored it; what a later one sealed was recorded later than at';
CREATE UNIQUE INDEX audit_heads_anchor ON public.audit_heads (anchor)
  WHERE tenant_id <> '6b6f6e73-7472-8563-8000-000000000000';

-- Signed checkpoints, stored after the anchor outside the database has them.
CREATE TABLE public.audit_checkpoints (
  tenant_id uuid   NOT NULL,
  size      bigint NOT NULL,
  anchor    bigint NOT NULL,
  note      text   NOT NULL,
  PRIMARY KEY (tenant_id, size, anchor)
);

-- Cosignatures of witnesses and time-stamps on the super-log's checkpoints, as they were received.
CREATE TABLE public.audit_witnesses (
  tenant_id uuid        NOT NULL,
  size      bigint      NOT NULL,
  name      text        NOT NULL,
  kind      text        NOT NULL CHECK (kind IN ('cosignature', 'timestamp')),
  said      bytea       NOT NULL,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, size, kind, name)
);

-- The notary's keys. Each is a leaf of the super-log.
CREATE TABLE public.audit_keys (
  tenant_id uuid        NOT NULL,
  anchor    bigint      NOT NULL,
  verifier  text        NOT NULL,
  at        timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, anchor)
);

DO $notary$
DECLARE t text;
BEGIN
  PERFORM public.konstruct_isolate('SELECT', 'audit_epochs', 'audit_tiles', 'audit_heads', 'audit_checkpoints',
                                   'audit_witnesses', 'audit_keys');
  FOREACH t IN ARRAY ARRAY['audit_epochs', 'audit_tiles', 'audit_heads', 'audit_checkpoints', 'audit_witnesses',
                           'audit_keys'] LOOP
    EXECUTE format('CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I
      FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse()', t);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse', t);
    EXECUTE format('CREATE POLICY notary_reads ON public.%I FOR SELECT TO konstruct_notary USING (true)', t);
    EXECUTE format('GRANT SELECT ON public.%I TO konstruct_notary', t);
    IF t <> 'audit_epochs' THEN -- those are made by audit_begin_epoch alone
      EXECUTE format('CREATE POLICY notary_writes ON public.%I FOR INSERT TO konstruct_notary WITH CHECK (true)', t);
      EXECUTE format('GRANT INSERT ON public.%I TO konstruct_notary', t);
    END IF;
  END LOOP;
END $notary$;
CREATE POLICY epochs ON public.audit_epochs TO CURRENT_USER USING (true) WITH CHECK (true);
REVOKE ALL ON FUNCTION public.audit_begin_epoch, public.audit_epoch_now FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_begin_epoch, public.audit_epoch_now TO konstruct_notary;

-- The lock of the active notary. Only a role with the UPDATE privilege can take it; an advisory lock could be taken by
-- anybody. A view has no pages, so a lock held for months does not hinder vacuum.
CREATE VIEW public.audit_lease AS SELECT 'locked by the active notary'::text AS purpose;
REVOKE ALL ON public.audit_lease FROM PUBLIC;
GRANT UPDATE ON public.audit_lease TO konstruct_notary;
-- +goose StatementEnd

-- +goose Down
DROP VIEW public.audit_lease;
DROP FUNCTION public.audit_begin_epoch, public.audit_epoch_now;
DROP TABLE public.audit_keys, public.audit_witnesses, public.audit_checkpoints, public.audit_heads, public.audit_tiles,
  public.audit_epochs;
