-- The provable log beside the seals: what the notary has put in order, and what it has signed.
-- Everything here is append-only; see docs/how-it-works.md and docs/log-format.md.
-- +goose Up

-- Transaction ids mean something only in the cluster that issued them. The epoch says which cluster that
-- was; it is a sequence, because a sequence is read as it is now and not as an old snapshot saw it.
CREATE SEQUENCE public.audit_epoch AS smallint START 1;
SELECT nextval('public.audit_epoch');

-- What is sealed already is of the first; what will be, of the one in force.
ALTER TABLE public.audit_seals ADD COLUMN epoch smallint NOT NULL DEFAULT 1;
ALTER TABLE public.audit_seals ALTER COLUMN epoch SET DEFAULT pg_sequence_last_value('public.audit_epoch'::regclass);
COMMENT ON COLUMN public.audit_seals.xid IS 'the sealing transaction; means something only in the cluster of this epoch';
-- Finds what is new, of all tenants, in the order in which it enters the logs.
CREATE INDEX audit_seals_order ON public.audit_seals (epoch, xid);

CREATE TABLE public.audit_epochs (
  tenant_id         uuid        NOT NULL,
  epoch             smallint    NOT NULL,
  system_identifier bigint      NOT NULL,
  began_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, epoch)
);

-- Full tiles, 256 hashes wide, of every log: level 0 holds leaf hashes, level n the roots of level n - 1.
-- A level 0 tile knows its events, and where its last stands in the order: an event's index is a search over tiles.
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
-- Hashes do not compress.
ALTER TABLE public.audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL, ALTER COLUMN event_ids SET STORAGE EXTERNAL;

-- A log's head after each round that touched it. The open tile's leaves are those that its heads since added.
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
  PRIMARY KEY (tenant_id, size, anchor)
);
COMMENT ON COLUMN public.audit_heads.anchor IS 'index of this head''s leaf in the super-log; of the super-log''s own heads, of the round''s last leaf';
COMMENT ON COLUMN public.audit_heads.xid IS 'with segment and event_id, the last leaf''s place in the order; of the super-log''s heads, how far all seals were read';
COMMENT ON COLUMN public.audit_heads.added IS 'hashes of the leaves that this head added to the tile that is still open';
CREATE UNIQUE INDEX audit_heads_anchor ON public.audit_heads (anchor) WHERE tenant_id <> '6b6f6e73-7472-8563-8000-000000000000';

-- Signed checkpoints, once the copy outside the database has them.
CREATE TABLE public.audit_checkpoints (
  tenant_id uuid   NOT NULL,
  size      bigint NOT NULL,
  anchor    bigint NOT NULL,
  note      text   NOT NULL,
  PRIMARY KEY (tenant_id, size, anchor)
);

-- What witnesses and time-stamping authorities said of a super-log's checkpoint, as it came in.
CREATE TABLE public.audit_witnesses (
  tenant_id uuid        NOT NULL,
  size      bigint      NOT NULL,
  name      text        NOT NULL,
  kind      text        NOT NULL CHECK (kind IN ('cosignature', 'timestamp')),
  said      bytea       NOT NULL,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, size, kind, name)
);

-- The super-log's id is no tenant's: an event that names it is refused, because its log can't become known.
ALTER TABLE public.audit_logs ADD CONSTRAINT no_tenant_is_the_super_log CHECK (tenant_id <> '6b6f6e73-7472-8563-8000-000000000000');

-- The notary's keys, each a leaf of the super-log.
CREATE TABLE public.audit_keys (
  tenant_id uuid        NOT NULL,
  anchor    bigint      NOT NULL,
  verifier  text        NOT NULL,
  at        timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, anchor)
);

-- +goose StatementBegin
DO $notary$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['audit_epochs', 'audit_tiles', 'audit_heads', 'audit_checkpoints', 'audit_witnesses', 'audit_keys'] LOOP
    EXECUTE format('CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I
      FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse()', t);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse', t);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I FOR SELECT
      USING (tenant_id = NULLIF(current_setting(''app.current_tenant'', TRUE), '''')::uuid)', t);
    EXECUTE format('CREATE POLICY notary_reads ON public.%I FOR SELECT TO konstruct_notary USING (true)', t);
    EXECUTE format('CREATE POLICY notary_writes ON public.%I FOR INSERT TO konstruct_notary WITH CHECK (true)', t);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', t);
    EXECUTE format('GRANT SELECT, INSERT ON public.%I TO konstruct_notary', t);
  END LOOP;
END $notary$;

-- Begins a new epoch in a cluster that is not the last one's; 0 when it is. Nobody writes while an epoch
-- ends, so every seal of the old one is there when it returns.
CREATE FUNCTION public.audit_begin_epoch(operator uuid) RETURNS smallint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $epoch$
DECLARE here bigint; before bigint; n smallint;
BEGIN
  SELECT system_identifier INTO here FROM pg_control_system();
  SELECT system_identifier INTO before FROM public.audit_epochs WHERE tenant_id = operator ORDER BY epoch DESC LIMIT 1;
  IF before = here THEN
    RETURN 0;
  ELSIF before IS NULL THEN
    SELECT last_value INTO n FROM public.audit_epoch;
  ELSE
    LOCK TABLE public.audit_seals IN SHARE ROW EXCLUSIVE MODE;
    n := nextval('public.audit_epoch');
  END IF;
  INSERT INTO public.audit_epochs (tenant_id, epoch, system_identifier) VALUES (operator, n, here);
  RETURN n;
END $epoch$;
-- +goose StatementEnd
CREATE POLICY epochs ON public.audit_epochs TO CURRENT_USER USING (true) WITH CHECK (true);
REVOKE ALL ON SEQUENCE public.audit_epoch FROM PUBLIC;
REVOKE ALL ON FUNCTION public.audit_begin_epoch(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_begin_epoch(uuid) TO konstruct_notary;

-- +goose Down
DROP FUNCTION public.audit_begin_epoch(uuid);
DROP TABLE public.audit_keys, public.audit_witnesses, public.audit_checkpoints, public.audit_heads, public.audit_tiles, public.audit_epochs;
ALTER TABLE public.audit_logs DROP CONSTRAINT no_tenant_is_the_super_log;
DROP INDEX public.audit_seals_order;
ALTER TABLE public.audit_seals DROP COLUMN epoch;
DROP SEQUENCE public.audit_epoch;
