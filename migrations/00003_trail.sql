-- The audit trail's tables beside the seed's audit_events: a seal for each event, written in the event's own
-- transaction to a table that the writer can't change, and triggers that refuse every change of stored rows.
--
-- A seal is a salted hash of the event's content. docs/leaf-format.md describes the format byte by byte; ledger/leaf.go
-- implements it in Go. Events that were there before are sealed by `konstruct migrate up`, after the migrations.
-- +goose Up
-- +goose StatementBegin

-- The tenants that have events. The id of the notary's super-log is refused as a tenant, because its log can't be
-- listed here.
CREATE TABLE public.audit_logs (
  tenant_id   uuid        NOT NULL PRIMARY KEY
    CONSTRAINT no_tenant_is_the_super_log CHECK (tenant_id <> '6b6f6e73-7472-8563-8000-000000000000'),
  known_since timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE public.audit_seals (
  tenant_id   uuid        NOT NULL,
  event_id    uuid        NOT NULL,
  mode        smallint    NOT NULL CHECK (mode IN (0, 1)),
  salt        bytea       NOT NULL,
  commitments bytea       NOT NULL,
  leaf_hash   bytea       NOT NULL,
  epoch       smallint    NOT NULL DEFAULT 1, -- the epoch in force: 00006_log.sql
  xid         xid8        NOT NULL,
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, event_id)
);
COMMENT ON COLUMN public.audit_seals.mode IS
  '0: sealed as it was written; 1: sealed later, when the database was adopted';
COMMENT ON COLUMN public.audit_seals.xid IS
  'the sealing transaction; means something only in the cluster of this epoch';
-- For the notary: new seals of all tenants, in the order in which they enter the logs.
CREATE INDEX audit_seals_order ON public.audit_seals (epoch, xid);

-- Adopted tenants: those with events from before the database had seals. Once finished_at is set, no more of their
-- events can be sealed as adopted.
CREATE TABLE public.audit_adoptions (
  tenant_id   uuid        NOT NULL PRIMARY KEY,
  started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz
);
-- Under forced row-level security the owner sees no rows, so it is lifted, only within this transaction.
ALTER TABLE public.audit_events NO FORCE ROW LEVEL SECURITY;
INSERT INTO public.audit_adoptions (tenant_id) SELECT DISTINCT tenant_id FROM public.audit_events;
INSERT INTO public.audit_logs (tenant_id) SELECT tenant_id FROM public.audit_adoptions;
ALTER TABLE public.audit_events FORCE ROW LEVEL SECURITY;

-- One field's commitment. NULL (00) differs from the empty value (01 00000000). || and sha256 return NULL for NULL.
CREATE FUNCTION public.audit_field(salt bytea, field bytea, value bytea) RETURNS bytea
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN coalesce(
    sha256('konstruct/field/v1'::bytea || field || sha256(salt || field) || '\x01'::bytea
      || int4send(octet_length(value)) || value),
    sha256('konstruct/field/v1'::bytea || field || sha256(salt || field) || '\x00'::bytea));

-- The seven commitments, concatenated. They are stored beside the leaf hash so that verification can name the field
-- that changed.
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

CREATE FUNCTION public.audit_seal() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $seal$
-- 244 random bits a statement, kept nowhere, give each row its salt: drawing one for each row takes as
-- long as eleven hashes.
DECLARE secret bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
BEGIN
  -- OFFSET 0 keeps each row's salt and time one value, computed once.
  WITH sealed AS (
    INSERT INTO public.audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
    SELECT tenant_id, id, 0, salt, commitments,
           public.audit_leaf(commitments, 0::smallint, recorded_at, tenant_id, id, created_at),
           pg_current_xact_id(), recorded_at
      FROM (SELECT tenant_id, id, created_at, salt, recorded_at,
                   public.audit_commitments(salt, agent_id, user_id, action_type, input_summary, output_summary,
                     latency_ms, metadata) AS commitments
              FROM (SELECT *, substr(sha256(secret || uuid_send(tenant_id) || uuid_send(id)), 1, 16) AS salt,
                           clock_timestamp() AS recorded_at
                      FROM new_events OFFSET 0) drawn OFFSET 0) committed
    RETURNING tenant_id)
  INSERT INTO public.audit_logs (tenant_id)
  SELECT DISTINCT n.tenant_id FROM sealed n
   WHERE NOT EXISTS (SELECT FROM public.audit_logs l WHERE l.tenant_id = n.tenant_id)
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $seal$;

-- Seals up to batch unsealed events of an adopted tenant and returns how many; 0 when none are left. The owner runs it
-- for one tenant at a time, with app.current_tenant set, as every reader must.
CREATE FUNCTION public.audit_seal_adopted(tenant uuid, batch integer) RETURNS integer
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $adopt$
DECLARE n integer;
BEGIN
  PERFORM FROM public.audit_adoptions WHERE tenant_id = tenant AND finished_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN RETURN 0; END IF;
  INSERT INTO public.audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
  SELECT tenant_id, id, 1, salt, commitments,
         public.audit_leaf(commitments, 1::smallint, recorded_at, tenant_id, id, created_at),
         pg_current_xact_id(), recorded_at
    FROM (SELECT tenant_id, id, created_at, salt, recorded_at,
                 public.audit_commitments(salt, agent_id, user_id, action_type, input_summary, output_summary,
                   latency_ms, metadata) AS commitments
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

-- Returns the seals that this transaction made for these events, so that a writer can verify what it sent before it
-- commits. It fails if an event has no seal at all.
CREATE FUNCTION public.audit_sealed_here(events uuid[])
  RETURNS TABLE (event_id uuid, mode smallint, recorded_at timestamptz, salt bytea, leaf_hash bytea)
  LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $here$
#variable_conflict use_column
DECLARE tenant uuid := NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid; n integer; bare uuid;
BEGIN
  IF cardinality(events) > 10000 THEN
    RAISE EXCEPTION 'events: % at once, the limit is 10000', cardinality(events)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN QUERY SELECT s.event_id, s.mode, s.recorded_at, s.salt, s.leaf_hash FROM unnest(events) u (id)
    CROSS JOIN LATERAL (SELECT * FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = u.id OFFSET 0) s
   WHERE s.xid = pg_current_xact_id_if_assigned();
  GET DIAGNOSTICS n = ROW_COUNT;
  IF n < cardinality(events) THEN
    SELECT u.id INTO bare FROM unnest(events) u (id)
     WHERE NOT EXISTS (SELECT FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = u.id) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'event % is not sealed: it is not written', bare USING ERRCODE = 'integrity_constraint_violation',
        HINT = 'Something on audit_events was switched off or diverts its rows: konstruct doctor names it.';
    END IF;
  END IF;
END $here$;

-- Refuses every change, by any role.
CREATE FUNCTION public.audit_refuse() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
  RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Record a correcting event instead.';
END $refuse$;

-- Reports whether the session's login role is a member of konstruct_compliance, and neither a superuser nor the
-- schema's owner. A role set later does not matter.
CREATE FUNCTION public.audit_by_compliance() RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $by$
  WITH RECURSIVE me AS (
    SELECT oid FROM pg_roles WHERE rolname = session_user AND NOT rolsuper
       AND oid <> (SELECT relowner FROM pg_class WHERE oid = 'public.audit_seals'::regclass)),
  roles (oid) AS (
    SELECT oid FROM me UNION SELECT m.roleid FROM pg_auth_members m JOIN roles r ON m.member = r.oid)
  SELECT EXISTS (SELECT FROM roles JOIN pg_roles USING (oid) WHERE rolname = 'konstruct_compliance')
$by$;

-- Refuses every change except by the functions of 00007_compliance.sql for a member of konstruct_compliance. The
-- triggers there restrict what those functions may change.
CREATE FUNCTION public.audit_refuse_unlawful() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
  IF TG_OP <> 'TRUNCATE' AND public.audit_by_compliance()
     AND current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Record a correcting event instead.';
END $refuse$;

-- An adoption can be finished once, and not changed otherwise.
CREATE FUNCTION public.audit_refuse_adoption() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $adoption$
BEGIN
  IF (NEW.tenant_id, NEW.started_at) = (OLD.tenant_id, OLD.started_at) AND OLD.finished_at IS NULL
     AND NEW.finished_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'UPDATE of audit_adoptions is refused: an adoption ends once'
    USING ERRCODE = 'insufficient_privilege';
END $adoption$;

CREATE TRIGGER audit_seal AFTER INSERT ON public.audit_events
  REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION public.audit_seal();
CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.audit_events
  FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_unlawful();
CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.audit_seals
  FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_unlawful();
CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse();
CREATE TRIGGER audit_refuse BEFORE INSERT OR DELETE OR TRUNCATE ON public.audit_adoptions
  FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse();
CREATE TRIGGER audit_refuse_adoption BEFORE UPDATE ON public.audit_adoptions
  FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_adoption();

DO $isolate$
DECLARE t text;
BEGIN
  PERFORM public.konstruct_isolate('SELECT', 'audit_logs', 'audit_seals', 'audit_adoptions');
  -- The notary reads every tenant's evidence; nobody else does.
  FOREACH t IN ARRAY ARRAY['audit_events', 'audit_logs', 'audit_seals', 'audit_adoptions'] LOOP
    EXECUTE format('CREATE POLICY notary_reads ON public.%I FOR SELECT TO konstruct_notary USING (true)', t);
    EXECUTE format('GRANT SELECT ON public.%I TO konstruct_notary', t);
  END LOOP;
  -- Enabled ALWAYS: the triggers fire whatever session_replication_role is.
  FOR t IN SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname)
             FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O' AND tgname ~ '^audit_' LOOP
    EXECUTE t;
  END LOOP;
END $isolate$;

-- The sealing trigger runs as the owner and must seal rows of any tenant. A seal that the owner inserts by hand can't
-- claim another transaction or time than its own, or an adoption that is not in progress.
CREATE POLICY sealing ON public.audit_seals FOR INSERT TO CURRENT_USER WITH CHECK (xid = pg_current_xact_id()
  AND recorded_at >= clock_timestamp() - interval '1 minute' AND recorded_at <= clock_timestamp() + interval '1 minute'
  AND (mode = 0 OR EXISTS (
    SELECT FROM public.audit_adoptions a WHERE a.tenant_id = audit_seals.tenant_id AND a.finished_at IS NULL)));
CREATE POLICY sealing ON public.audit_logs TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY adoption ON public.audit_adoptions TO CURRENT_USER USING (true) WITH CHECK (true);

-- All columns except the salts: with a salt, guesses of an erased field can be tested.
GRANT SELECT (tenant_id, event_id, mode, leaf_hash, recorded_at) ON public.audit_seals TO konstruct_app;
REVOKE ALL ON FUNCTION public.audit_field, public.audit_commitments, public.audit_leaf, public.audit_seal,
  public.audit_seal_adopted, public.audit_sealed_here, public.audit_refuse, public.audit_by_compliance,
  public.audit_refuse_unlawful, public.audit_refuse_adoption FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_sealed_here TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
DROP POLICY notary_reads ON public.audit_events;
REVOKE SELECT ON public.audit_events FROM konstruct_notary;
DROP TRIGGER audit_seal ON public.audit_events;
DROP TRIGGER audit_refuse ON public.audit_events;
DROP TABLE public.audit_adoptions, public.audit_seals, public.audit_logs;
DROP FUNCTION public.audit_field, public.audit_commitments, public.audit_leaf, public.audit_seal,
  public.audit_seal_adopted, public.audit_sealed_here, public.audit_refuse, public.audit_by_compliance,
  public.audit_refuse_unlawful, public.audit_refuse_adoption;
