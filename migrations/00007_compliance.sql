-- Compliance acts on a trail that nobody else can change: fields are erased, old events are deleted, and legal holds
-- prevent both. Only konstruct_compliance may do so, through the functions below. Each act is an event that says what
-- was removed, by whom and why. Triggers allow a function only the changes that its event records. See
-- docs/compliance.md.
--
-- Each function names its tenant in every condition, because row-level security does not restrict a schema's owner who
-- is a superuser.
-- +goose Up
-- +goose StatementBegin

-- Erased fields: the event, the field, and the event that records the erasure.
CREATE TABLE public.audit_erasures (
  tenant_id uuid     NOT NULL,
  event_id  uuid     NOT NULL,
  field     smallint NOT NULL CHECK (field IN (1, 2, 4, 5, 6, 7)),
  record_id uuid     NOT NULL,
  PRIMARY KEY (tenant_id, event_id, field)
);

-- Legal holds. A hold protects the events that match all of its conditions; a hold without conditions protects all
-- events.
CREATE TABLE public.audit_holds (
  tenant_id   uuid        NOT NULL,
  id          uuid        NOT NULL,
  reason      text        NOT NULL,
  since       timestamptz,
  until       timestamptz,
  agent_id    uuid,
  user_id     text,
  action_type text,
  placed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  placed_by   text        NOT NULL,
  released_at timestamptz,
  released_by text,
  PRIMARY KEY (tenant_id, id)
);

-- Retention rules: how long events of an action type are kept; an empty type means all types without a rule. Events
-- without a rule are kept.
CREATE TABLE public.audit_retention (
  tenant_id   uuid        NOT NULL,
  action_type text        NOT NULL,
  keep_days   integer     NOT NULL CONSTRAINT keep_days CHECK (keep_days BETWEEN 1 AND 36500),
  set_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  set_by      text        NOT NULL,
  PRIMARY KEY (tenant_id, action_type)
);

-- Deleted events: one bit for each leaf from first_leaf on, and the event that records the deletion.
CREATE TABLE public.audit_gone (
  tenant_id uuid   NOT NULL,
  first     bigint NOT NULL,
  record_id uuid   NOT NULL,
  bits      bytea  NOT NULL,
  PRIMARY KEY (tenant_id, first, record_id)
);

-- Tenants that require two people: one requests an act and another approves it.
CREATE TABLE public.audit_two_people (
  tenant_id uuid        NOT NULL PRIMARY KEY,
  since     timestamptz NOT NULL DEFAULT clock_timestamp(),
  set_by    text        NOT NULL
);

-- Requests that wait for a second person's approval. A row is deleted when the act is approved or declined, because it
-- may name the person whom it is about.
CREATE TABLE public.audit_requests (
  tenant_id    uuid        NOT NULL,
  id           uuid        NOT NULL,
  act          text        NOT NULL DEFAULT 'erasure'
    CHECK (act IN ('erasure', 'release', 'retention_rule', 'one_person')),
  events       uuid[]      NOT NULL,
  user_id      text,
  fields       smallint[]  NOT NULL,
  hold         uuid,
  action_type  text,
  keep_days    integer,
  reason       text        NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  requested_by text        NOT NULL,
  PRIMARY KEY (tenant_id, id)
);

DO $isolate$
DECLARE t text;
BEGIN
  PERFORM public.konstruct_isolate('ALL', 'audit_erasures', 'audit_holds', 'audit_retention', 'audit_gone',
                                   'audit_two_people', 'audit_requests');
  FOREACH t IN ARRAY ARRAY['audit_erasures', 'audit_holds', 'audit_retention', 'audit_gone', 'audit_two_people',
                           'audit_requests'] LOOP
    EXECUTE format('CREATE TRIGGER audit_refuse BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON public.%I
      FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_unlawful()', t);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse', t);
  END LOOP;
END $isolate$;
CREATE POLICY notary_reads ON public.audit_erasures FOR SELECT TO konstruct_notary USING (true);
CREATE POLICY notary_reads ON public.audit_gone FOR SELECT TO konstruct_notary USING (true);
GRANT SELECT ON public.audit_erasures, public.audit_gone TO konstruct_notary;
-- Erasures are not secret: a reader of an event sees that a field is missing.
GRANT SELECT ON public.audit_erasures TO konstruct_app;
-- The functions run as the owner, who sees the rows of the tenant that they set.
CREATE POLICY erasing ON public.audit_seals FOR UPDATE TO CURRENT_USER
  USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);
CREATE POLICY retiring ON public.audit_seals FOR DELETE TO CURRENT_USER
  USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);

-- Acts, and the triggers that restrict them.

-- Reports whether an event records a compliance act. Such events can't be changed.
CREATE FUNCTION public.audit_is_act(action text) RETURNS boolean
  LANGUAGE sql IMMUTABLE
  RETURN action IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule',
                    'compliance_request', 'compliance_declined');

-- Only the functions below may write such events: neither the service, nor the owner, nor a superuser may claim that an
-- erasure was lawful.
CREATE FUNCTION public.audit_refuse_act() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $act$
BEGIN
  IF public.audit_by_compliance()
     AND current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'action_type: % records a compliance act, which konstruct_compliance alone performs', NEW.action_type
    USING ERRCODE = 'insufficient_privilege';
END $act$;
-- A trigger after each row, so that COPY still inserts many rows at once; the condition costs other events nothing.
CREATE TRIGGER audit_act AFTER INSERT ON public.audit_events FOR EACH ROW
  WHEN (NEW.action_type IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule',
                            'compliance_request', 'compliance_declined'))
  EXECUTE FUNCTION public.audit_refuse_act();

-- Returns a committed field's name.
CREATE FUNCTION public.audit_field_name(field smallint) RETURNS text
  LANGUAGE sql IMMUTABLE
  RETURN (ARRAY['agent_id', 'user_id', 'action_type', 'input_summary', 'output_summary', 'latency_ms',
                'metadata'])[field];

-- Returns a seal's salt after an erasure: the erased fields, one bit each, and the seven fields' salts, zeros for
-- erased fields.
CREATE FUNCTION public.audit_forget(salt bytea, fields smallint[]) RETURNS bytea
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $forget$
DECLARE mask integer := 0; out bytea := ''; n smallint;
BEGIN
  IF octet_length(salt) <> 16 THEN mask := get_byte(salt, 0); END IF;
  FOREACH n IN ARRAY fields LOOP mask := mask | (1 << (n - 1)); END LOOP;
  FOR n IN 1..7 LOOP
    out := out || CASE WHEN mask & (1 << (n - 1)) <> 0 THEN decode(repeat('00', 32), 'hex')
                       WHEN octet_length(salt) = 16 THEN sha256(salt || set_byte('\x00', 0, n))
                       ELSE substr(salt, 2 + (n - 1) * 32, 32) END;
  END LOOP;
  RETURN set_byte('\x00', 0, mask) || out;
END $forget$;

-- An event's fields may only be blanked, and only those that an erasure sealed in this transaction names.
CREATE FUNCTION public.audit_hold_erasure() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong uuid;
BEGIN
  SELECT n.id INTO wrong
    FROM (SELECT *, row_number() OVER () AS place FROM new_rows) n
    FULL JOIN (SELECT *, row_number() OVER () AS place FROM old_rows) o USING (place)
   CROSS JOIN LATERAL (
      SELECT coalesce(array_agg(x.field), '{}') AS fields
        FROM public.audit_erasures x JOIN public.audit_seals s ON s.tenant_id = x.tenant_id AND s.event_id = x.record_id
       WHERE x.tenant_id = n.tenant_id AND x.event_id = n.id AND s.xid = pg_current_xact_id_if_assigned()) e
   WHERE (n.tenant_id, n.id, n.action_type, n.created_at)
         IS DISTINCT FROM (o.tenant_id, o.id, o.action_type, o.created_at)
      OR n.agent_id IS DISTINCT FROM o.agent_id AND NOT (n.agent_id IS NULL AND 1 = ANY (e.fields))
      OR n.user_id IS DISTINCT FROM o.user_id AND NOT (n.user_id IS NULL AND 2 = ANY (e.fields))
      OR n.input_summary IS DISTINCT FROM o.input_summary AND NOT (n.input_summary IS NULL AND 4 = ANY (e.fields))
      OR n.output_summary IS DISTINCT FROM o.output_summary AND NOT (n.output_summary IS NULL AND 5 = ANY (e.fields))
      OR n.latency_ms IS DISTINCT FROM o.latency_ms AND NOT (n.latency_ms IS NULL AND 6 = ANY (e.fields))
      OR n.metadata IS DISTINCT FROM o.metadata AND NOT (n.metadata = '{}' AND 7 = ANY (e.fields))
      OR public.audit_is_act(o.action_type) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event % is changed by more than an erasure of this transaction says', wrong
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;
CREATE TRIGGER audit_hold_erasure AFTER UPDATE ON public.audit_events
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_erasure();

-- Of a seal only the salts of erased fields may change: they are zeroed.
CREATE FUNCTION public.audit_hold_salts() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong uuid;
BEGIN
  SELECT n.event_id INTO wrong
    FROM (SELECT *, row_number() OVER () AS place FROM new_rows) n
    FULL JOIN (SELECT *, row_number() OVER () AS place FROM old_rows) o USING (place)
   CROSS JOIN LATERAL (
      SELECT array_agg(x.field) AS fields FROM public.audit_erasures x
       WHERE x.tenant_id = n.tenant_id AND x.event_id = n.event_id) e
   WHERE (n.tenant_id, n.event_id, n.mode, n.commitments, n.leaf_hash, n.xid, n.recorded_at, n.epoch)
         IS DISTINCT FROM
         (o.tenant_id, o.event_id, o.mode, o.commitments, o.leaf_hash, o.xid, o.recorded_at, o.epoch)
      OR e.fields IS NULL OR n.salt IS DISTINCT FROM public.audit_forget(o.salt, e.fields) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the seal of event % is changed by more than its erasure says', wrong
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;
CREATE TRIGGER audit_hold_salts AFTER UPDATE ON public.audit_seals
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_salts();

-- Events may be deleted only as many as a retention act of this transaction records, and never acts.
CREATE FUNCTION public.audit_hold_deletion() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong record;
BEGIN
  SELECT o.tenant_id, count(*) AS n INTO wrong FROM old_rows o GROUP BY o.tenant_id
  HAVING bool_or(public.audit_is_act(o.action_type)) OR count(*) <> (
    SELECT coalesce(sum((e.metadata->>'deleted')::bigint), 0)
      FROM public.audit_events e JOIN public.audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id
     WHERE e.tenant_id = o.tenant_id AND e.action_type = 'retention' AND s.xid = pg_current_xact_id_if_assigned())
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% events of tenant % are deleted, and no act of this transaction says so', wrong.n, wrong.tenant_id
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;
CREATE TRIGGER audit_hold_deletion AFTER DELETE ON public.audit_events
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_deletion();

-- A seal may be deleted only after its event.
CREATE FUNCTION public.audit_hold_seals() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong uuid;
BEGIN
  SELECT o.event_id INTO wrong
    FROM old_rows o JOIN public.audit_events e ON e.tenant_id = o.tenant_id AND e.id = o.event_id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the seal of event % is deleted, and the event is there', wrong
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;
CREATE TRIGGER audit_hold_seals AFTER DELETE ON public.audit_seals
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_seals();

-- Enabled ALWAYS: the triggers fire whatever session_replication_role is.
ALTER TABLE public.audit_events ENABLE ALWAYS TRIGGER audit_act, ENABLE ALWAYS TRIGGER audit_hold_erasure,
  ENABLE ALWAYS TRIGGER audit_hold_deletion;
ALTER TABLE public.audit_seals ENABLE ALWAYS TRIGGER audit_hold_salts, ENABLE ALWAYS TRIGGER audit_hold_seals;

-- Common to all acts.

-- Sets the tenant for this transaction, checks what every act needs (a permitted role, a reason, an existing tenant),
-- and locks the tenant so that acts run one at a time: a hold is in force when it is acknowledged. The lock is on a row
-- that no other role may lock.
CREATE FUNCTION public.audit_act(tenant uuid, reason text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $act$
DECLARE waits text := coalesce(current_setting('lock_timeout', true), '0');
BEGIN
  IF NOT public.audit_by_compliance() THEN
    RAISE EXCEPTION '% is no member of konstruct_compliance, which alone performs compliance acts', session_user
      USING ERRCODE = 'insufficient_privilege',
      HINT =
        'Superusers and the owner of the schema are refused too: log in with a person''s own role that is a member.';
  ELSIF tenant IS NULL THEN
    RAISE EXCEPTION 'tenant: is missing' USING ERRCODE = 'invalid_parameter_value';
  ELSIF coalesce(btrim(reason), '') = '' OR length(reason) > 2000 THEN
    RAISE EXCEPTION 'reason: must be there, and at most 2000 characters long' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM set_config('app.current_tenant', tenant::text, true);
  PERFORM set_config('lock_timeout', '10s', true);
  PERFORM FROM public.audit_logs l WHERE l.tenant_id = tenant FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'tenant: % has no events', tenant USING ERRCODE = 'no_data_found';
  END IF;
  PERFORM set_config('lock_timeout', waits, true);
END $act$;

-- Records an act as an event of the tenant, which must be sealed, and returns the event's id.
CREATE FUNCTION public.audit_record(tenant uuid, action text, reason text, by text, what jsonb) RETURNS uuid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $record$
DECLARE record uuid;
BEGIN
  INSERT INTO public.audit_events (id, tenant_id, user_id, action_type, input_summary, metadata, created_at)
  VALUES (gen_random_uuid(), tenant, by, action, reason, what, clock_timestamp()) RETURNING id INTO record;
  IF NOT EXISTS (
    SELECT FROM public.audit_seals s
     WHERE s.tenant_id = tenant AND s.event_id = record AND s.xid = pg_current_xact_id()) THEN
    RAISE EXCEPTION 'event % is not sealed: nothing is done', record USING ERRCODE = 'integrity_constraint_violation',
      HINT = 'Something on audit_events was switched off or diverts its rows: konstruct doctor names it.';
  END IF;
  RETURN record;
END $record$;

-- Refuses an invalid list: empty, too long, with NULL or duplicates, or with more than one dimension.
CREATE FUNCTION public.audit_check_list(what text, list anycompatiblearray, most integer) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $list$
BEGIN
  IF coalesce(cardinality(list), 0) = 0 OR array_ndims(list) <> 1 OR array_lower(list, 1) <> 1 THEN
    RAISE EXCEPTION '%: must be a list of some', what USING ERRCODE = 'invalid_parameter_value';
  ELSIF cardinality(list) > most THEN
    RAISE EXCEPTION '%: % %s at once, the limit is %', what, cardinality(list), what, most
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF cardinality(list) <> (SELECT count(DISTINCT u) FROM unnest(list) u) THEN
    RAISE EXCEPTION '%: one is missing or named twice', what USING ERRCODE = 'invalid_parameter_value';
  END IF;
END $list$;

CREATE FUNCTION public.audit_check_fields(fields smallint[]) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $fields$
BEGIN
  IF coalesce(cardinality(fields), 0) = 0 OR NOT fields <@ '{1,2,4,5,6,7}' THEN
    RAISE EXCEPTION 'field: must name some of agent_id, user_id, input_summary, output_summary, latency_ms, metadata'
      USING ERRCODE = 'invalid_parameter_value',
      HINT = 'action_type can''t be erased: the schema wants one in every event, and an exclusion is proven by it.';
  END IF;
  PERFORM public.audit_check_list('field', fields, 6);
END $fields$;

-- Approval by two people.

-- Reports whether the tenant requires two people.
CREATE FUNCTION public.audit_needs_two(tenant uuid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  AS $$SELECT EXISTS (SELECT FROM public.audit_two_people p WHERE p.tenant_id = tenant)$$;

-- Requests a second person's approval, and records the request as an event. The event is permanent, so it names events
-- and fields but not the user.
CREATE FUNCTION public.audit_ask(tenant uuid, what text, events uuid[], of_user text, fields smallint[], hold uuid,
    action text, days integer, reason text) RETURNS uuid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $ask$
#variable_conflict use_variable
DECLARE request uuid := gen_random_uuid();
BEGIN
  IF (SELECT count(*) FROM public.audit_requests q WHERE q.tenant_id = tenant) >= 1000 THEN
    RAISE EXCEPTION 'request: 1000 wait already'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Have them approved or declined first.';
  END IF;
  INSERT INTO public.audit_requests (tenant_id, id, act, events, user_id, fields, hold, action_type, keep_days,
    reason, requested_by)
  VALUES (tenant, request, what, coalesce(events, '{}'), of_user, coalesce(fields, '{}'), hold, action, days, reason,
    session_user);
  PERFORM public.audit_record(tenant, 'compliance_request', reason, session_user,
    jsonb_strip_nulls(jsonb_build_object('request', request, 'act', what,
      'events', CASE WHEN events <> '{}' THEN to_jsonb(events) END,
      'of_one_user', CASE WHEN of_user IS NOT NULL THEN true END,
      'fields', (SELECT jsonb_agg(public.audit_field_name(f)) FROM unnest(fields) f),
      'hold', hold, 'action_type', action))
    || CASE WHEN what = 'retention_rule' THEN jsonb_build_object('keep_days', days) ELSE '{}' END);
  RETURN request;
END $ask$;

-- Lists the requests that wait for a second person.
CREATE FUNCTION public.audit_pending(tenant uuid) RETURNS SETOF public.audit_requests
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pending$
BEGIN
  PERFORM set_config('app.current_tenant', coalesce(tenant::text, ''), true);
  RETURN QUERY SELECT * FROM public.audit_requests q WHERE q.tenant_id = tenant ORDER BY requested_at LIMIT 1000;
END $pending$;

-- Requires two people from now on for this tenant's erasures, releases of holds, and shorter retention.
CREATE FUNCTION public.audit_require_two(tenant uuid, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $two$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  INSERT INTO public.audit_two_people (tenant_id, set_by) VALUES (tenant, session_user) ON CONFLICT DO NOTHING;
  PERFORM public.audit_record(tenant, 'retention_rule', reason, session_user, '{"two_people": true}');
END $two$;

-- Requests that one person be enough again; another person must approve it.
CREATE FUNCTION public.audit_require_one(tenant uuid, reason text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $one$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF NOT public.audit_needs_two(tenant) THEN
    RAISE EXCEPTION 'tenant: one person is enough for % already', tenant USING ERRCODE = 'no_data_found';
  END IF;
  RETURN public.audit_ask(tenant, 'one_person', NULL, NULL, NULL, NULL, NULL, NULL, reason);
END $one$;

-- Holds.

-- Reports whether a hold is in force and protects an event of its tenant.
CREATE FUNCTION public.audit_protects(h public.audit_holds, created_at timestamptz, agent_id uuid, user_id text,
    action_type text) RETURNS boolean
  LANGUAGE sql IMMUTABLE
  RETURN (h).released_at IS NULL
    AND ((h).since IS NULL OR created_at >= (h).since) AND ((h).until IS NULL OR created_at < (h).until)
    AND ((h).agent_id IS NULL OR agent_id = (h).agent_id) AND ((h).user_id IS NULL OR user_id = (h).user_id)
    AND ((h).action_type IS NULL OR action_type = (h).action_type);

-- Returns and describes a hold on any of these events; NULL if there is none.
CREATE FUNCTION public.audit_held(tenant uuid, events uuid[], OUT hold uuid, OUT description text)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $held$
  SELECT h.id, format('event %s is under legal hold %s (%s)', e.id, h.id, h.reason)
    FROM public.audit_holds h JOIN public.audit_events e
      ON public.audit_protects(h, e.created_at, e.agent_id, e.user_id, e.action_type)
   WHERE h.tenant_id = tenant AND e.tenant_id = tenant AND e.id = ANY (events) LIMIT 1
$held$;

-- Places a hold: until it is released, no matching event is erased or deleted.
CREATE FUNCTION public.audit_hold(tenant uuid, reason text, since timestamptz, until timestamptz, agent_id uuid,
    user_id text, action_type text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $hold$
#variable_conflict use_variable
DECLARE hold uuid := gen_random_uuid();
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF NOT isfinite(since) OR NOT isfinite(until) THEN
    RAISE EXCEPTION 'since: a time without an end is none: leave it out' USING ERRCODE = 'invalid_parameter_value';
  ELSIF since >= until THEN
    RAISE EXCEPTION 'since: % is not before until (%)', since, until USING ERRCODE = 'invalid_parameter_value';
  ELSIF length(user_id) > 1024 OR length(action_type) > 1024 THEN
    RAISE EXCEPTION 'user_id, action_type: at most 1024 characters each' USING ERRCODE = 'invalid_parameter_value';
  ELSIF (SELECT count(*) FROM public.audit_holds h WHERE h.tenant_id = tenant AND h.released_at IS NULL) >= 1000 THEN
    RAISE EXCEPTION 'hold: 1000 are in force already'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Release those that are over, or place a wider one.';
  END IF;
  INSERT INTO public.audit_holds (tenant_id, id, reason, since, until, agent_id, user_id, action_type, placed_by)
  VALUES (tenant, hold, reason, since, until, agent_id, user_id, action_type, session_user);
  -- The event stays for good, so it does not name the user.
  PERFORM public.audit_record(tenant, 'legal_hold', reason, session_user,
    jsonb_strip_nulls(jsonb_build_object('hold', hold, 'placed', true, 'since', since, 'until', until,
      'agent_id', agent_id, 'action_type', action_type, 'of_one_user', CASE WHEN user_id IS NOT NULL THEN true END)));
  RETURN hold;
END $hold$;

CREATE FUNCTION public.audit_release_now(tenant uuid, hold uuid, reason text, by text, approved_by text, request uuid)
  RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $release$
BEGIN
  UPDATE public.audit_holds h SET released_at = clock_timestamp(), released_by = by, user_id = NULL
   WHERE h.tenant_id = tenant AND h.id = hold AND h.released_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'hold: no hold % is in force for this tenant', hold USING ERRCODE = 'no_data_found';
  END IF;
  PERFORM public.audit_record(tenant, 'legal_hold', reason, by,
    jsonb_strip_nulls(jsonb_build_object('hold', hold, 'placed', false, 'approved_by', approved_by,
      'request', request)));
END $release$;

-- Releases a hold. If the tenant requires two people, it only makes a request and returns its id.
CREATE FUNCTION public.audit_release(tenant uuid, hold uuid, reason text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $release$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF hold IS NULL OR NOT EXISTS (
    SELECT FROM public.audit_holds h WHERE h.tenant_id = tenant AND h.id = hold AND h.released_at IS NULL) THEN
    RAISE EXCEPTION 'hold: no hold % is in force for this tenant', hold USING ERRCODE = 'no_data_found';
  ELSIF public.audit_needs_two(tenant) THEN
    RETURN public.audit_ask(tenant, 'release', NULL, NULL, NULL, hold, NULL, NULL, reason);
  END IF;
  PERFORM public.audit_release_now(tenant, hold, reason, session_user, NULL, NULL);
  RETURN NULL;
END $release$;

CREATE FUNCTION public.audit_list_holds(tenant uuid) RETURNS SETOF public.audit_holds
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $holds$
BEGIN
  PERFORM set_config('app.current_tenant', coalesce(tenant::text, ''), true);
  RETURN QUERY SELECT * FROM public.audit_holds h WHERE h.tenant_id = tenant ORDER BY placed_at DESC LIMIT 1000;
END $holds$;

-- Erasure.

-- Erases fields of at most 1,000 events that no hold protects. Fields already erased are skipped. If strict, an event
-- of which all the fields are already erased is an error.
CREATE FUNCTION public.audit_erase_now(tenant uuid, events uuid[], fields smallint[], reason text, by text,
    approved_by text, request uuid, strict boolean) RETURNS uuid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE missing uuid; done text; held record; record uuid;
BEGIN
  PERFORM public.audit_check_fields(fields);
  PERFORM public.audit_check_list('event', events, 1000);
  SELECT u INTO missing FROM unnest(events) u WHERE NOT EXISTS (
    SELECT FROM public.audit_events e JOIN public.audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id
     WHERE e.tenant_id = tenant AND e.id = u) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event: tenant % has no event %', tenant, missing USING ERRCODE = 'no_data_found';
  END IF;
  SELECT u INTO missing FROM public.audit_events e JOIN unnest(events) u ON e.tenant_id = tenant AND e.id = u
   WHERE public.audit_is_act(e.action_type) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event: % records a compliance act, which can''t be erased', missing
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  SELECT * INTO held FROM public.audit_held(tenant, events);
  IF held.hold IS NOT NULL THEN
    RAISE EXCEPTION '%', held.description
      USING ERRCODE = 'object_in_use', HINT = format('To release the hold, if that is permitted: '
        'konstruct audit hold release --tenant %s --reason REASON %s', tenant, held.hold);
  END IF;
  IF strict THEN
    SELECT format('event %s: %s was erased at %s', u, string_agg(public.audit_field_name(x.field), ', '),
             to_char(min(r.created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
      INTO done FROM unnest(events) u
      JOIN public.audit_erasures x ON x.tenant_id = tenant AND x.event_id = u AND x.field = ANY (fields)
      JOIN public.audit_events r ON r.tenant_id = tenant AND r.id = x.record_id
     GROUP BY u HAVING count(*) = cardinality(fields) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION '%', done USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
  END IF;
  record := public.audit_record(tenant, 'erasure', reason, by, jsonb_strip_nulls(jsonb_build_object(
    'events', to_jsonb(events), 'fields', (SELECT jsonb_agg(public.audit_field_name(f)) FROM unnest(fields) f),
    'approved_by', approved_by, 'request', request)));
  INSERT INTO public.audit_erasures (tenant_id, event_id, field, record_id)
  SELECT tenant, e, f, record FROM unnest(events) e, unnest(fields) f ON CONFLICT DO NOTHING;
  UPDATE public.audit_events e SET
      agent_id       = CASE WHEN 1 = ANY (fields) THEN NULL ELSE e.agent_id END,
      user_id        = CASE WHEN 2 = ANY (fields) THEN NULL ELSE e.user_id END,
      input_summary  = CASE WHEN 4 = ANY (fields) THEN NULL ELSE e.input_summary END,
      output_summary = CASE WHEN 5 = ANY (fields) THEN NULL ELSE e.output_summary END,
      latency_ms     = CASE WHEN 6 = ANY (fields) THEN NULL ELSE e.latency_ms END,
      metadata       = CASE WHEN 7 = ANY (fields) THEN '{}' ELSE e.metadata END
    WHERE e.tenant_id = tenant AND e.id = ANY (events);
  UPDATE public.audit_seals s SET salt = public.audit_forget(s.salt, fields)
   WHERE s.tenant_id = tenant AND s.event_id = ANY (events);
  RETURN record;
END $erase$;

-- Erases fields of all of a user's events, or of none, and returns how many events. If user_id is among the fields, a
-- later search for the user finds no events.
CREATE FUNCTION public.audit_erase_user_now(tenant uuid, of_user text, fields smallint[], reason text, by text,
    approved_by text, request uuid) RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE events uuid[]; n bigint := 0; after uuid;
BEGIN
  PERFORM public.audit_check_fields(fields);
  LOOP
    SELECT array_agg(id) INTO events FROM (
      SELECT e.id FROM public.audit_events e
       WHERE e.tenant_id = tenant AND e.user_id = of_user AND (after IS NULL OR e.id > after)
         AND NOT public.audit_is_act(e.action_type)
         AND cardinality(fields) > (
           SELECT count(*) FROM public.audit_erasures x
            WHERE x.tenant_id = tenant AND x.event_id = e.id AND x.field = ANY (fields))
       ORDER BY e.id LIMIT 1000) e;
    EXIT WHEN events IS NULL;
    PERFORM public.audit_erase_now(tenant, events, fields, reason, by, approved_by, request, false);
    n := n + cardinality(events);
    after := events[cardinality(events)];
  END LOOP;
  IF n = 0 THEN
    RAISE EXCEPTION 'user_id: tenant % has no event of this user with such a field left', tenant
      USING ERRCODE = 'no_data_found';
  END IF;
  RETURN n;
END $erase$;

-- Erases fields of some events or of all of a user's events. If the tenant requires two people, it only makes a request
-- and returns its id.
CREATE FUNCTION public.audit_erase(tenant uuid, events uuid[], of_user text, fields smallint[], reason text,
    OUT erased bigint, OUT request uuid)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $erase$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  PERFORM public.audit_check_fields(fields);
  IF (of_user IS NULL) = (coalesce(cardinality(events), 0) = 0) THEN
    RAISE EXCEPTION 'event: name events or a user_id, and not both' USING ERRCODE = 'invalid_parameter_value';
  ELSIF length(of_user) > 1024 THEN
    RAISE EXCEPTION 'user_id: is % characters long, the limit is 1024', length(of_user)
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF of_user IS NULL THEN
    PERFORM public.audit_check_list('event', events, 1000);
  END IF;
  IF public.audit_needs_two(tenant) THEN
    request := public.audit_ask(tenant, 'erasure', events, of_user, fields, NULL, NULL, NULL, reason);
  ELSIF of_user IS NOT NULL THEN
    erased := public.audit_erase_user_now(tenant, of_user, fields, reason, session_user, NULL, NULL);
  ELSE
    PERFORM public.audit_erase_now(tenant, events, fields, reason, session_user, NULL, NULL, true);
    erased := cardinality(events);
  END IF;
END $erase$;

-- Retention.

-- Returns the retention floor: the least number of days for which a rule may keep events. It is six months, as the EU's
-- AI Act requires. The owner of a system that the act does not bind may replace this function.
CREATE FUNCTION public.audit_retention_floor() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 184;

CREATE FUNCTION public.audit_retain_now(tenant uuid, action text, days integer, reason text, by text, approved_by text,
    request uuid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $retain$
BEGIN
  IF days IS NULL THEN
    DELETE FROM public.audit_retention r WHERE r.tenant_id = tenant AND r.action_type = action;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'action_type: there is no rule for %', coalesce(nullif(action, ''), 'all others')
        USING ERRCODE = 'no_data_found';
    END IF;
  ELSE
    INSERT INTO public.audit_retention (tenant_id, action_type, keep_days, set_by) VALUES (tenant, action, days, by)
    ON CONFLICT ON CONSTRAINT audit_retention_pkey DO UPDATE
      SET keep_days = excluded.keep_days, set_at = clock_timestamp(), set_by = excluded.set_by;
  END IF;
  PERFORM public.audit_record(tenant, 'retention_rule', reason, by,
    jsonb_build_object('action_type', action, 'keep_days', days, 'floor_days', public.audit_retention_floor())
    || jsonb_strip_nulls(jsonb_build_object('approved_by', approved_by, 'request', request)));
END $retain$;

-- Sets how many days a tenant's events of a type are kept, or, for an empty type, of all types without a rule; NULL
-- removes the rule. If the tenant requires two people and the change shortens retention, it only makes a request and
-- returns its id.
CREATE FUNCTION public.audit_retain(tenant uuid, action text, keep_days integer, reason text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $retain$
#variable_conflict use_variable
DECLARE now_kept integer;
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF action IS NULL OR length(action) > 1024 THEN
    RAISE EXCEPTION 'action_type: must be there, '''' for all others, and at most 1024 characters long'
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF keep_days < public.audit_retention_floor() THEN
    RAISE EXCEPTION 'keep: % days is less than the floor of % days', keep_days, public.audit_retention_floor()
      USING ERRCODE = 'invalid_parameter_value',
      HINT = 'docs/compliance.md says whom the floor binds, and how the owner of the schema sets another.';
  ELSIF keep_days NOT BETWEEN 1 AND 36500 THEN
    RAISE EXCEPTION 'keep: % days is not between 1 and 36500', keep_days USING ERRCODE = 'invalid_parameter_value';
  ELSIF public.audit_is_act(action) THEN
    RAISE EXCEPTION 'action_type: % records a compliance act, which is kept for good', action
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF keep_days IS NULL AND NOT EXISTS (
    SELECT FROM public.audit_retention r WHERE r.tenant_id = tenant AND r.action_type = action) THEN
    RAISE EXCEPTION 'action_type: there is no rule for %', coalesce(nullif(action, ''), 'all others')
      USING ERRCODE = 'no_data_found';
  END IF;
  SELECT r.keep_days INTO now_kept FROM public.audit_retention r
   WHERE r.tenant_id = tenant AND r.action_type IN (action, '')
   ORDER BY r.action_type = action DESC LIMIT 1;
  IF public.audit_needs_two(tenant) AND (keep_days IS NULL OR now_kept IS NULL OR keep_days < now_kept) THEN
    RETURN public.audit_ask(tenant, 'retention_rule', NULL, NULL, NULL, NULL, action, keep_days, reason);
  END IF;
  PERFORM public.audit_retain_now(tenant, action, keep_days, reason, session_user, NULL, NULL);
  RETURN NULL;
END $retain$;

CREATE FUNCTION public.audit_list_retention(tenant uuid) RETURNS SETOF public.audit_retention
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $rules$
BEGIN
  PERFORM set_config('app.current_tenant', coalesce(tenant::text, ''), true);
  RETURN QUERY SELECT * FROM public.audit_retention r WHERE r.tenant_id = tenant ORDER BY action_type LIMIT 1000;
END $rules$;

-- Returns how many leaves a signed checkpoint covered before a time: those the log itself proves to be that old. Heads
-- are ordered by time, so it uses a binary search.
CREATE FUNCTION public.audit_size_before(tenant uuid, before timestamptz) RETURNS bigint
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $size$
DECLARE low bigint := 0; high bigint; middle bigint; s bigint; t timestamptz; found bigint := 0;
BEGIN
  SELECT coalesce(max(size), 0) + 1 INTO high FROM public.audit_checkpoints WHERE tenant_id = tenant;
  WHILE high - low > 1 LOOP
    middle := low + (high - low) / 2;
    SELECT h.size INTO s FROM public.audit_heads h WHERE h.tenant_id = tenant AND h.size <= middle
     ORDER BY h.size DESC LIMIT 1;
    IF s IS NULL OR s <= found THEN
      low := middle;
    ELSE
      SELECT h.at INTO t FROM public.audit_heads h WHERE h.tenant_id = tenant AND h.size = s ORDER BY h.anchor LIMIT 1;
      IF t < before THEN
        found := s; low := middle;
      ELSE
        high := s;
      END IF;
    END IF;
  END LOOP;
  RETURN found;
END $size$;

-- Returns a tenant's leaves [begin, upto) with their events' ids: from full tiles, and for the incomplete tile from the
-- heads since.
CREATE FUNCTION public.audit_leaves(tenant uuid, begin bigint, upto bigint) RETURNS TABLE (leaf bigint, id uuid)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $leaves$
  SELECT first + i, encode(substr(ids, i * 16 + 1, 16), 'hex')::uuid
    FROM (SELECT tile * 256, event_ids FROM public.audit_tiles
           WHERE tenant_id = tenant AND level = 0 AND tile >= begin / 256 AND tile <= (upto - 1) / 256
          UNION ALL
          SELECT full_to, (SELECT string_agg(added_ids, '' ORDER BY size, anchor)
                             FROM public.audit_heads WHERE tenant_id = tenant AND size > full_to)
            FROM (SELECT 256 * coalesce(max(tile) + 1, 0)
                    FROM public.audit_tiles WHERE tenant_id = tenant AND level = 0) f (full_to)
           WHERE upto > full_to) t (first, ids),
         generate_series(0, octet_length(ids) / 16 - 1) i
   WHERE first + i >= begin AND first + i < upto
$leaves$;

-- Deletes expired events among a tenant's next leaves, except those that no signed checkpoint proves to be old enough
-- and those under a hold. Returns the next leaf to continue with, NULL at the end, and what was deleted. With try it
-- deletes nothing.
CREATE FUNCTION public.audit_retire(tenant uuid, begin bigint, width integer, reason text, try boolean,
    OUT next bigint, OUT deleted bigint, OUT held bigint, OUT bytes bigint)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_seqscan = off SET jit = off AS $retire$
DECLARE signed bigint; upto bigint; leaves bigint[]; events uuid[]; first bigint; bits bytea; record uuid; l bigint;
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF begin IS NULL OR begin < 0 OR begin > 1::bigint << 62 THEN
    RAISE EXCEPTION 'begin: % is no leaf', begin USING ERRCODE = 'invalid_parameter_value';
  ELSIF width IS NULL OR width NOT BETWEEN 1 AND 65536 THEN
    RAISE EXCEPTION 'width: % is not between 1 and 65536', width USING ERRCODE = 'invalid_parameter_value';
  ELSIF try IS NULL THEN
    RAISE EXCEPTION 'try: must be true or false' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT coalesce(max(size), 0) INTO signed FROM public.audit_checkpoints WHERE tenant_id = tenant;
  upto := least(begin + width, signed);
  next := CASE WHEN upto < signed THEN upto END;
  -- Each leaf is looked up by its key (OFFSET 0): a planner that knows little of the tables reads a tenant's every
  -- event for each.
  WITH rules AS MATERIALIZED (
    SELECT action_type, public.audit_size_before(tenant,
             now() - greatest(keep_days, public.audit_retention_floor()) * interval '24 hours') AS size
      FROM public.audit_retention WHERE tenant_id = tenant)
  SELECT array_agg(d.leaf ORDER BY d.leaf) FILTER (WHERE NOT d.kept), array_agg(d.id) FILTER (WHERE NOT d.kept),
         count(*) FILTER (WHERE d.kept), sum(d.size) FILTER (WHERE NOT d.kept)
    INTO leaves, events, held, bytes
    FROM (SELECT v.leaf, v.id, pg_column_size(e.*) + pg_column_size(s.*) AS size,
                 EXISTS (SELECT FROM public.audit_holds h WHERE h.tenant_id = tenant
                   AND public.audit_protects(h, e.created_at, e.agent_id, e.user_id, e.action_type)) AS kept
            FROM public.audit_leaves(tenant, begin, least(upto, (SELECT max(size) FROM rules))) v
            CROSS JOIN LATERAL (
              SELECT * FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = v.id OFFSET 0) s
            CROSS JOIN LATERAL (
              SELECT * FROM public.audit_events e WHERE e.tenant_id = tenant AND e.id = v.id OFFSET 0) e
            LEFT JOIN rules r ON r.action_type = e.action_type
            LEFT JOIN rules o ON o.action_type = ''
           WHERE NOT public.audit_is_act(e.action_type) AND v.leaf < coalesce(r.size, o.size)) d;
  deleted := coalesce(cardinality(events), 0);
  held := coalesce(held, 0);
  bytes := coalesce(bytes, 0);
  IF deleted = 0 OR try THEN RETURN; END IF;
  first := leaves[1];
  bits := decode(repeat('00', ((leaves[deleted] - first) / 8 + 1)::integer), 'hex');
  FOREACH l IN ARRAY leaves LOOP bits := set_bit(bits, l - first, 1); END LOOP;
  record := public.audit_record(tenant, 'retention', reason, session_user, jsonb_build_object(
    'first_leaf', first, 'deleted', deleted, 'leaves', translate(encode(bits, 'base64'), E'\n', ''),
    'floor_days', public.audit_retention_floor(),
    'kept_for',
    (SELECT jsonb_object_agg(action_type, keep_days) FROM public.audit_retention WHERE tenant_id = tenant)));
  INSERT INTO public.audit_gone (tenant_id, first, record_id, bits) VALUES (tenant, first, record, bits);
  DELETE FROM public.audit_events e WHERE e.tenant_id = tenant AND e.id = ANY (events);
  DELETE FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = ANY (events);
  DELETE FROM public.audit_erasures x WHERE x.tenant_id = tenant AND x.event_id = ANY (events);
END $retire$;

-- Carries out another person's request, or declines it.
CREATE FUNCTION public.audit_decide(tenant uuid, request uuid, approve boolean, reason text) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $decide$
DECLARE r public.audit_requests; n bigint := 0;
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF approve IS NULL THEN
    RAISE EXCEPTION 'approve: must be true or false' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  DELETE FROM public.audit_requests q WHERE q.tenant_id = tenant AND q.id = request RETURNING * INTO r;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'request: nothing waits for this tenant as %', request USING ERRCODE = 'no_data_found';
  ELSIF NOT approve THEN
    PERFORM public.audit_record(tenant,
      CASE r.act WHEN 'erasure' THEN 'erasure_declined' ELSE 'compliance_declined' END, reason, session_user,
      jsonb_build_object('request', r.id, 'act', r.act, 'requested_by', r.requested_by)
        || CASE r.act WHEN 'erasure' THEN jsonb_build_object('events', cardinality(r.events)) ELSE '{}' END);
    RETURN 0;
  ELSIF r.requested_by IS NOT DISTINCT FROM session_user::text THEN
    RAISE EXCEPTION 'request: % asked for this, and another person must approve it', session_user
      USING ERRCODE = 'insufficient_privilege',
      HINT = 'Each person needs a database role of their own, a member of konstruct_compliance.';
  END IF;
  CASE r.act
  WHEN 'release' THEN
    PERFORM public.audit_release_now(tenant, r.hold, r.reason, r.requested_by, session_user, r.id);
  WHEN 'retention_rule' THEN
    PERFORM public.audit_retain_now(tenant, r.action_type, r.keep_days, r.reason, r.requested_by, session_user, r.id);
  WHEN 'one_person' THEN
    DELETE FROM public.audit_two_people p WHERE p.tenant_id = tenant;
    PERFORM public.audit_record(tenant, 'retention_rule', r.reason, r.requested_by,
      jsonb_build_object('two_people', false, 'approved_by', session_user, 'request', r.id));
  ELSE
    IF r.user_id IS NOT NULL THEN
      n := public.audit_erase_user_now(tenant, r.user_id, r.fields, r.reason, r.requested_by, session_user, r.id);
    ELSE
      PERFORM public.audit_erase_now(tenant, r.events, r.fields, r.reason, r.requested_by, session_user, r.id, true);
      n := cardinality(r.events);
    END IF;
  END CASE;
  RETURN n;
END $decide$;

REVOKE ALL ON FUNCTION public.audit_is_act, public.audit_refuse_act, public.audit_field_name, public.audit_forget,
  public.audit_hold_erasure, public.audit_hold_salts, public.audit_hold_deletion, public.audit_hold_seals,
  public.audit_act, public.audit_record, public.audit_check_list, public.audit_check_fields, public.audit_needs_two,
  public.audit_ask, public.audit_pending, public.audit_require_two, public.audit_require_one, public.audit_protects,
  public.audit_held, public.audit_hold, public.audit_release_now, public.audit_release, public.audit_list_holds,
  public.audit_erase_now, public.audit_erase_user_now, public.audit_erase, public.audit_retention_floor,
  public.audit_retain_now, public.audit_retain, public.audit_list_retention, public.audit_size_before,
  public.audit_leaves, public.audit_retire, public.audit_decide FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_erase, public.audit_decide, public.audit_pending, public.audit_require_two,
  public.audit_require_one, public.audit_hold, public.audit_release, public.audit_list_holds, public.audit_retain,
  public.audit_list_retention, public.audit_retention_floor, public.audit_retire TO konstruct_compliance;
-- +goose StatementEnd

-- +goose Down
-- Erased and deleted content does not come back, and acts stay on the trail.
DROP TRIGGER audit_act ON public.audit_events;
DROP TRIGGER audit_hold_erasure ON public.audit_events;
DROP TRIGGER audit_hold_deletion ON public.audit_events;
DROP TRIGGER audit_hold_salts ON public.audit_seals;
DROP TRIGGER audit_hold_seals ON public.audit_seals;
DROP FUNCTION public.audit_is_act, public.audit_refuse_act, public.audit_field_name, public.audit_forget,
  public.audit_hold_erasure, public.audit_hold_salts, public.audit_hold_deletion, public.audit_hold_seals,
  public.audit_act, public.audit_record, public.audit_check_list, public.audit_check_fields, public.audit_needs_two,
  public.audit_ask, public.audit_pending, public.audit_require_two, public.audit_require_one, public.audit_protects,
  public.audit_held, public.audit_hold, public.audit_release_now, public.audit_release, public.audit_list_holds,
  public.audit_erase_now, public.audit_erase_user_now, public.audit_erase, public.audit_retention_floor,
  public.audit_retain_now, public.audit_retain, public.audit_list_retention, public.audit_size_before,
  public.audit_leaves, public.audit_retire, public.audit_decide;
DROP POLICY erasing ON public.audit_seals;
DROP POLICY retiring ON public.audit_seals;
DROP TABLE public.audit_requests, public.audit_two_people, public.audit_gone, public.audit_retention,
  public.audit_holds, public.audit_erasures;
