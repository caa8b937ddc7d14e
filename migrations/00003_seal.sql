-- Sealing: each event's content is fixed by a salted leaf hash, written in the writer's own transaction
-- to a table that writer has no privilege on. The format is docs/leaf-format.md, byte for byte;
-- ledger/leaf.go is the same in Go.
-- +goose Up

-- A tenant's log exists as soon as a row names the tenant.
CREATE TABLE public.audit_logs (
  tenant_id   uuid        NOT NULL PRIMARY KEY,
  known_since timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE public.audit_seals (
  tenant_id   uuid        NOT NULL,
  event_id    uuid        NOT NULL,
  mode        smallint    NOT NULL CHECK (mode IN (0, 1)),
  salt        bytea       NOT NULL,
  commitments bytea       NOT NULL,
  leaf_hash   bytea       NOT NULL,
  xid         xid8        NOT NULL,
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, event_id)
);
COMMENT ON COLUMN public.audit_seals.mode IS '0: sealed as it was written; 1: sealed later, when the database was adopted';
COMMENT ON COLUMN public.audit_seals.xid IS 'the sealing transaction; means something only in the cluster that issued it';

-- Tenants whose rows were there before sealing was; finished_at closes the door on sealing later.
CREATE TABLE public.audit_adoptions (
  tenant_id   uuid        NOT NULL PRIMARY KEY,
  started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz
);

-- One field's commitment. NULL (00) is not the empty value (01 00000000): || and sha256 of NULL are NULL.
CREATE FUNCTION public.audit_field(salt bytea, field bytea, value bytea) RETURNS bytea
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN coalesce(
    sha256('konstruct/field/v1'::bytea || field || sha256(salt || field) || '\x01'::bytea || int4send(octet_length(value)) || value),
    sha256('konstruct/field/v1'::bytea || field || sha256(salt || field) || '\x00'::bytea));

-- The seven commitments, joined. Kept beside the leaf hash so that verification can name the field.
CREATE FUNCTION public.audit_commitments(salt bytea, agent_id uuid, user_id text, action_type text,
    input_summary text, output_summary text, latency_ms integer, metadata jsonb) RETURNS bytea
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN public.audit_field(salt, '\x01', uuid_send(agent_id))
    || public.audit_field(salt, '\x02', convert_to(user_id, 'UTF8'))
    || public.audit_field(salt, '\x03', convert_to(action_type, 'UTF8'))
    || public.audit_field(salt, '\x04', convert_to(input_summary, 'UTF8'))
    || public.audit_field(salt, '\x05', convert_to(output_summary, 'UTF8'))
    || public.audit_field(salt, '\x06', int4send(latency_ms))
    || public.audit_field(salt, '\x07', convert_to(metadata::text, 'UTF8'));

-- The leaf hash of one event: RFC 6962's SHA-256(0x00 ‖ leaf).
CREATE FUNCTION public.audit_leaf(commitments bytea, mode smallint, recorded_at timestamptz,
    tenant_id uuid, id uuid, created_at timestamptz) RETURNS bytea
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN sha256('\x00'::bytea || 'konstruct/event/v1'::bytea
    || uuid_send(tenant_id) || uuid_send(id)
    || timestamptz_send(created_at) || timestamptz_send(recorded_at) || int2send(mode) || commitments);

-- +goose StatementBegin
CREATE FUNCTION public.audit_seal() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $seal$
-- 244 random bits a statement, kept nowhere, give each row its salt: drawing one for each row takes as
-- long as eleven hashes.
DECLARE secret bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
BEGIN
  -- OFFSET 0 keeps each row's salt and time one value, computed once.
  WITH sealed AS (
    INSERT INTO public.audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
    SELECT tenant_id, id, 0, salt, commitments, public.audit_leaf(commitments, 0::smallint, recorded_at, tenant_id, id, created_at),
           pg_current_xact_id(), recorded_at
      FROM (SELECT tenant_id, id, created_at, salt, recorded_at,
                   public.audit_commitments(salt, agent_id, user_id, action_type, input_summary, output_summary, latency_ms, metadata) AS commitments
              FROM (SELECT *, substr(sha256(secret || uuid_send(tenant_id) || uuid_send(id)), 1, 16) AS salt, clock_timestamp() AS recorded_at
                      FROM new_events OFFSET 0) drawn OFFSET 0) committed
    RETURNING tenant_id)
  INSERT INTO public.audit_logs (tenant_id)
  SELECT DISTINCT n.tenant_id FROM sealed n
   WHERE NOT EXISTS (SELECT FROM public.audit_logs l WHERE l.tenant_id = n.tenant_id)
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $seal$;

CREATE FUNCTION public.audit_refuse() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
  RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Record a correcting event instead.';
END $refuse$;

-- Seals up to batch events of one adopted tenant that have no seal yet; 0 when none are left.
-- The owner runs it one tenant at a time, with app.current_tenant set, as every other reader does.
CREATE FUNCTION public.audit_seal_adopted(tenant uuid, batch integer) RETURNS integer
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $adopt$
DECLARE n integer;
BEGIN
  PERFORM FROM public.audit_adoptions WHERE tenant_id = tenant AND finished_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN RETURN 0; END IF;
  INSERT INTO public.audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
  SELECT tenant_id, id, 1, salt, commitments, public.audit_leaf(commitments, 1::smallint, recorded_at, tenant_id, id, created_at),
         pg_current_xact_id(), recorded_at
    FROM (SELECT tenant_id, id, created_at, salt, recorded_at,
                 public.audit_commitments(salt, agent_id, user_id, action_type, input_summary, output_summary, latency_ms, metadata) AS commitments
            FROM (SELECT e.*, uuid_send(gen_random_uuid()) AS salt, clock_timestamp() AS recorded_at
                    FROM public.audit_events e
                   WHERE e.tenant_id = tenant
                     AND NOT EXISTS (SELECT FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = e.id)
                   ORDER BY e.id LIMIT batch OFFSET 0) drawn OFFSET 0) committed;
  GET DIAGNOSTICS n = ROW_COUNT;
  IF n = 0 THEN
    UPDATE public.audit_adoptions SET finished_at = clock_timestamp() WHERE tenant_id = tenant;
  END IF;
  RETURN n;
END $adopt$;
-- +goose StatementEnd

-- Whoever had rows before this migration is to be adopted.
ALTER TABLE public.audit_events NO FORCE ROW LEVEL SECURITY;
INSERT INTO public.audit_adoptions (tenant_id) SELECT DISTINCT tenant_id FROM public.audit_events;
INSERT INTO public.audit_logs (tenant_id) SELECT tenant_id FROM public.audit_adoptions;
ALTER TABLE public.audit_events FORCE ROW LEVEL SECURITY;

CREATE TRIGGER audit_seal AFTER INSERT ON public.audit_events
  REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION public.audit_seal();
ALTER TABLE public.audit_events ENABLE ALWAYS TRIGGER audit_seal;
-- +goose StatementBegin
DO $append_only$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['audit_events', 'audit_seals', 'audit_logs'] LOOP
    EXECUTE format('CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I
      FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse()', t);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['audit_seals', 'audit_logs', 'audit_adoptions'] LOOP
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I FOR SELECT
      USING (tenant_id = NULLIF(current_setting(''app.current_tenant'', TRUE), '''')::uuid)', t);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', t);
  END LOOP;
END $append_only$;
-- +goose StatementEnd
-- The sealing trigger runs as the owner and must seal whatever tenant a row names.
CREATE POLICY sealing ON public.audit_seals FOR INSERT TO CURRENT_USER WITH CHECK (true);
CREATE POLICY sealing ON public.audit_logs TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY adoption ON public.audit_adoptions TO CURRENT_USER USING (true) WITH CHECK (true);
-- The notary reads every tenant's evidence; nobody else does.
CREATE POLICY notary_reads ON public.audit_events FOR SELECT TO konstruct_notary USING (true);
CREATE POLICY notary_reads ON public.audit_seals FOR SELECT TO konstruct_notary USING (true);
CREATE POLICY notary_reads ON public.audit_logs FOR SELECT TO konstruct_notary USING (true);
CREATE POLICY notary_reads ON public.audit_adoptions FOR SELECT TO konstruct_notary USING (true);
GRANT SELECT ON public.audit_events, public.audit_seals, public.audit_logs, public.audit_adoptions TO konstruct_notary;
-- Everything but the salts: whoever holds a salt can test guesses of an erased field.
GRANT SELECT (tenant_id, event_id, mode, leaf_hash, recorded_at) ON public.audit_seals TO konstruct_app;
REVOKE ALL ON FUNCTION public.audit_seal(), public.audit_refuse(), public.audit_seal_adopted(uuid, integer),
  public.audit_leaf(bytea, smallint, timestamptz, uuid, uuid, timestamptz),
  public.audit_commitments(bytea, uuid, text, text, text, text, integer, jsonb), public.audit_field(bytea, bytea, bytea) FROM PUBLIC;
-- +goose StatementBegin
DO $temporary$ BEGIN
  -- Only the database's owner can; where that is another, PostgreSQL warns and the rest stands.
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $temporary$;
-- +goose StatementEnd

-- +goose Down
DROP POLICY notary_reads ON public.audit_events;
DROP TRIGGER audit_seal ON public.audit_events;
DROP TRIGGER audit_refuse ON public.audit_events;
DROP TABLE public.audit_adoptions, public.audit_seals, public.audit_logs;
DROP FUNCTION public.audit_seal(), public.audit_refuse(), public.audit_seal_adopted(uuid, integer),
  public.audit_leaf(bytea, smallint, timestamptz, uuid, uuid, timestamptz),
  public.audit_commitments(bytea, uuid, text, text, text, text, integer, jsonb), public.audit_field(bytea, bytea, bytea);
