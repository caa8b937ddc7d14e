-- What marks a log's place must survive recovery: a sequence does not (nextval pre-logs 32 values, so that after a crash, or on
-- a promoted standby, it stands elsewhere). The epoch in force is the constant default of audit_seals.epoch: the
-- catalog is read as it is now and not as an old snapshot saw it, and recovery leaves it as it was.
-- +goose Up

-- What the notary reads to see whether an event's time can be true.
ALTER TABLE public.audit_heads ADD COLUMN own_xid xid8;
COMMENT ON COLUMN public.audit_heads.own_xid IS 'of the super-log''s heads: the transaction that stored it; what a later one sealed was recorded later than at';

-- +goose StatementBegin
DO $epoch$
DECLARE known smallint; stood smallint; here bigint;
BEGIN
  -- The owner sees no rows under forced RLS; lifted inside this transaction only.
  ALTER TABLE public.audit_seals NO FORCE ROW LEVEL SECURITY;
  SELECT max(epoch) INTO known FROM public.audit_epochs WHERE tenant_id = '6b6f6e73-7472-8563-8000-000000000000';
  SELECT last_value INTO stood FROM public.audit_epoch;
  -- Where the sequence was moved by a crash, what was sealed since is of an epoch that no notary began: it begins now.
  IF stood > coalesce(known, 1) AND EXISTS (SELECT FROM public.audit_seals WHERE epoch = stood) THEN
    SELECT system_identifier INTO here FROM pg_control_system();
    INSERT INTO public.audit_epochs (tenant_id, epoch, system_identifier) VALUES ('6b6f6e73-7472-8563-8000-000000000000', stood, here);
    known := stood;
  END IF;
  EXECUTE format('ALTER TABLE public.audit_seals ALTER COLUMN epoch SET DEFAULT %s', coalesce(known, 1));
  ALTER TABLE public.audit_seals FORCE ROW LEVEL SECURITY;
END $epoch$;

-- The epoch in force.
CREATE FUNCTION public.audit_epoch_now() RETURNS smallint
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  AS $$SELECT substring(pg_get_expr(d.adbin, d.adrelid) FROM '[0-9]+')::smallint FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = 'public.audit_seals'::regclass AND a.attname = 'epoch'$$;

-- Begins a new epoch in a cluster that is not the last one's; 0 when it is. Nobody writes while an epoch
-- ends, so every seal of the old one is there when it returns.
CREATE OR REPLACE FUNCTION public.audit_begin_epoch(operator uuid) RETURNS smallint
  LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $begin$
DECLARE here bigint; last public.audit_epochs; n smallint; before text := coalesce(current_setting('konstruct.allow_ddl', true), '');
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
-- +goose StatementEnd
DROP SEQUENCE public.audit_epoch;

-- Nobody makes epochs but that function.
DROP POLICY notary_writes ON public.audit_epochs;
REVOKE INSERT ON public.audit_epochs FROM konstruct_notary;
REVOKE ALL ON FUNCTION public.audit_epoch_now() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_epoch_now() TO konstruct_notary;

-- A seal that the owner adds by hand can't claim another transaction or time than its own, nor an adoption that is not under way.
ALTER POLICY sealing ON public.audit_seals WITH CHECK (xid = pg_current_xact_id()
  AND recorded_at >= clock_timestamp() - interval '1 minute' AND recorded_at <= clock_timestamp() + interval '1 minute'
  AND (mode = 0 OR EXISTS (SELECT FROM public.audit_adoptions a WHERE a.tenant_id = audit_seals.tenant_id AND a.finished_at IS NULL)));

-- The seals of these events that the transaction itself made, so that a writer can hold what it sent against what was sealed before it
-- commits, or is told. It is an error if one of them has no seal at all.
-- +goose StatementBegin
CREATE FUNCTION public.audit_sealed_here(events uuid[]) RETURNS TABLE (event_id uuid, mode smallint, recorded_at timestamptz, salt bytea, leaf_hash bytea)
  LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $here$
#variable_conflict use_column
DECLARE tenant uuid := NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid; n integer; bare uuid;
BEGIN
  IF cardinality(events) > 10000 THEN
    RAISE EXCEPTION 'events: % at once, the limit is 10000', cardinality(events) USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN QUERY SELECT s.event_id, s.mode, s.recorded_at, s.salt, s.leaf_hash FROM unnest(events) u (id)
    CROSS JOIN LATERAL (SELECT * FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = u.id OFFSET 0) s
   WHERE s.xid = pg_current_xact_id_if_assigned();
  GET DIAGNOSTICS n = ROW_COUNT;
  IF n < cardinality(events) THEN
    SELECT u.id INTO bare FROM unnest(events) u (id) WHERE NOT EXISTS (SELECT FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = u.id) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'event % is not sealed: it is not written', bare USING ERRCODE = 'integrity_constraint_violation',
        HINT = 'Something on audit_events was switched off or diverts its rows: konstruct doctor names it.';
    END IF;
  END IF;
END $here$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION public.audit_sealed_here(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_sealed_here(uuid[]) TO konstruct_app;

-- What the active notary locks. Only who may update it can, as the active notary alone is to; an advisory lock is anybody's. A view has
-- no pages that a lock held for months would keep from being vacuumed.
CREATE VIEW public.audit_lease AS SELECT 'locked by the active notary'::text AS purpose;
REVOKE ALL ON public.audit_lease FROM PUBLIC;
GRANT UPDATE ON public.audit_lease TO konstruct_notary;

-- +goose Down
DROP FUNCTION public.audit_sealed_here(uuid[]);
DROP VIEW public.audit_lease;
ALTER POLICY sealing ON public.audit_seals WITH CHECK (true);
CREATE POLICY notary_writes ON public.audit_epochs FOR INSERT TO konstruct_notary WITH CHECK (true);
GRANT INSERT ON public.audit_epochs TO konstruct_notary;
CREATE SEQUENCE public.audit_epoch AS smallint START 1;
SELECT setval('public.audit_epoch', public.audit_epoch_now());
REVOKE ALL ON SEQUENCE public.audit_epoch FROM PUBLIC;
DROP FUNCTION public.audit_epoch_now();
ALTER TABLE public.audit_seals ALTER COLUMN epoch SET DEFAULT pg_sequence_last_value('public.audit_epoch'::regclass);
ALTER TABLE public.audit_heads DROP COLUMN own_xid;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION public.audit_begin_epoch(operator uuid) RETURNS smallint
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
