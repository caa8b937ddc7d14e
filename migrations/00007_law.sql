-- (Each function names its tenant in every condition: row security does not bind a schema's owner who is a superuser.)
-- What the law asks of a trail that can't be changed: fields are erased and old events deleted, by konstruct_compliance
-- alone, through the functions below, each act an event that says what went, who did it and why. docs/law.md.
-- +goose Up

-- Which field of which event is erased, and the event that records it.
CREATE TABLE public.audit_erasures (
  tenant_id uuid     NOT NULL,
  event_id  uuid     NOT NULL,
  field     smallint NOT NULL CHECK (field IN (1, 2, 4, 5, 6, 7)),
  record_id uuid     NOT NULL,
  PRIMARY KEY (tenant_id, event_id, field)
);

-- Which events may not go, whoever asks: those that match all that a hold names; one that names nothing holds everything.
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

-- How long events are kept: of an action type, or of all others where it is empty. What has no rule is kept.
CREATE TABLE public.audit_retention (
  tenant_id   uuid        NOT NULL,
  action_type text        NOT NULL,
  keep        interval    NOT NULL,
  set_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  set_by      text        NOT NULL,
  PRIMARY KEY (tenant_id, action_type)
);

-- Which leaves' events were deleted, a bit each from the first on, and the event that records it.
CREATE TABLE public.audit_gone (
  tenant_id uuid   NOT NULL,
  first     bigint NOT NULL,
  record_id uuid   NOT NULL,
  bits      bytea  NOT NULL,
  PRIMARY KEY (tenant_id, first, record_id)
);

-- Tenants of which one person asks for an erasure and another approves it.
CREATE TABLE public.audit_two_people (
  tenant_id uuid        NOT NULL PRIMARY KEY,
  since     timestamptz NOT NULL DEFAULT clock_timestamp(),
  set_by    text        NOT NULL
);

-- Erasures that wait for a second person. A row goes when its erasure is done or refused: it may name whom it is about.
CREATE TABLE public.audit_requests (
  tenant_id    uuid        NOT NULL,
  id           uuid        NOT NULL,
  events       uuid[]      NOT NULL,
  user_id      text,
  fields       smallint[]  NOT NULL,
  reason       text        NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  requested_by text        NOT NULL,
  PRIMARY KEY (tenant_id, id)
);

-- +goose StatementBegin
DO $isolate$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['audit_erasures', 'audit_holds', 'audit_retention', 'audit_gone', 'audit_two_people', 'audit_requests'] LOOP
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I
      USING (tenant_id = NULLIF(current_setting(''app.current_tenant'', TRUE), '''')::uuid)', t);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', t);
  END LOOP;
END $isolate$;

-- Refuses every change but the one statement that a function below has announced, in this transaction, as the owner.
CREATE OR REPLACE FUNCTION public.audit_refuse() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
  IF current_setting('konstruct.act', true) = format('%s %s %s', TG_OP, TG_TABLE_NAME, pg_current_xact_id())
     AND current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Record a correcting event instead.';
END $refuse$;

CREATE FUNCTION public.audit_announce(act text, on_table text) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$SELECT set_config('konstruct.act', format('%s %s %s', act, on_table, pg_current_xact_id()), true)$$;

-- Whether an event records an act of the law: those stay as they are.
CREATE FUNCTION public.audit_is_act(action text) RETURNS boolean
  LANGUAGE sql IMMUTABLE RETURN action IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule');

-- Only the functions below write such events: what says that an erasure was lawful is not for the service to write.
CREATE FUNCTION public.audit_refuse_act() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $act$
BEGIN
  IF current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
    RAISE EXCEPTION 'action_type: % records an act of the law, which konstruct_compliance alone performs', NEW.action_type USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $act$;

-- The name of a committed field.
CREATE FUNCTION public.audit_field_name(field smallint) RETURNS text
  LANGUAGE sql IMMUTABLE RETURN (ARRAY['agent_id', 'user_id', 'action_type', 'input_summary', 'output_summary', 'latency_ms', 'metadata'])[field];

-- A seal's salt when fields are erased: which (a bit each), and the seven fields' own salts, those of erased fields zero.
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

-- Whether a hold is in force and protects an event of its tenant's.
CREATE FUNCTION public.audit_protects(h public.audit_holds, created_at timestamptz, agent_id uuid, user_id text, action_type text) RETURNS boolean
  LANGUAGE sql IMMUTABLE RETURN (h).released_at IS NULL AND ((h).since IS NULL OR created_at >= (h).since) AND ((h).until IS NULL OR created_at < (h).until)
    AND ((h).agent_id IS NULL OR agent_id = (h).agent_id) AND ((h).user_id IS NULL OR user_id = (h).user_id) AND ((h).action_type IS NULL OR action_type = (h).action_type);

-- The first hold on any of these events, in words; NULL when there is none.
CREATE FUNCTION public.audit_held(tenant uuid, events uuid[]) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $held$
  SELECT format('event %s is under legal hold %s (%s)', e.id, h.id, h.reason)
    FROM public.audit_holds h JOIN public.audit_events e
      ON public.audit_protects(h, e.created_at, e.agent_id, e.user_id, e.action_type)
   WHERE h.tenant_id = tenant AND e.tenant_id = tenant AND e.id = ANY (events) LIMIT 1
$held$;

-- Makes the tenant the session's, for this transaction, checks what every act needs, a reason and a tenant that is there, and
-- lets one act at a time happen to a tenant: a hold is in force when it is acknowledged.
CREATE FUNCTION public.audit_act(tenant uuid, reason text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $act$
BEGIN
  PERFORM set_config('app.current_tenant', tenant::text, true);
  IF coalesce(btrim(reason), '') = '' OR length(reason) > 2000 THEN
    RAISE EXCEPTION 'reason: must be there, and at most 2000 characters long' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('konstruct law ' || tenant, 0));
  IF NOT EXISTS (SELECT FROM public.audit_logs l WHERE l.tenant_id = tenant) THEN
    RAISE EXCEPTION 'tenant: % has no events', tenant USING ERRCODE = 'no_data_found';
  END IF;
END $act$;

-- Records an act as an event of the tenant's, and returns its id.
CREATE FUNCTION public.audit_record(tenant uuid, action text, reason text, by text, what jsonb) RETURNS uuid
  LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $record$
  INSERT INTO public.audit_events (id, tenant_id, user_id, action_type, input_summary, metadata, created_at)
  VALUES (gen_random_uuid(), tenant, by, action, reason, what, clock_timestamp()) RETURNING id
$record$;

-- Erases fields of at most a thousand events that no hold protects. Fields that are erased already are left out; an event of which all
-- are is an error when strict.
CREATE FUNCTION public.audit_erase_now(tenant uuid, events uuid[], fields smallint[], reason text, by text, approved_by text, strict boolean) RETURNS uuid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE n integer; missing uuid; done text; held text; record uuid;
BEGIN
  IF cardinality(fields) = 0 OR NOT fields <@ '{1,2,4,5,6,7}' THEN
    RAISE EXCEPTION 'field: must name some of agent_id, user_id, input_summary, output_summary, latency_ms, metadata' USING ERRCODE = 'invalid_parameter_value',
      HINT = 'action_type can''t be erased: the schema wants one in every event, and an exclusion is proven by it.';
  ELSIF cardinality(events) NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'event: % events at once, the limit is 1000', cardinality(events) USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT u INTO missing FROM unnest(events) u WHERE NOT EXISTS (SELECT FROM public.audit_events e JOIN public.audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id WHERE e.tenant_id = tenant AND e.id = u) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event: tenant % has no event %', tenant, missing USING ERRCODE = 'no_data_found';
  END IF;
  SELECT u INTO missing FROM public.audit_events e JOIN unnest(events) u ON e.tenant_id = tenant AND e.id = u WHERE public.audit_is_act(e.action_type) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event: % records an act of the law, which can''t be erased', missing USING ERRCODE = 'insufficient_privilege';
  END IF;
  held := public.audit_held(tenant, events);
  IF held IS NOT NULL THEN
    RAISE EXCEPTION '%', held USING ERRCODE = 'object_in_use', HINT = 'Release the hold first, if it may be: konstruct audit hold release';
  END IF;
  IF strict THEN
    SELECT format('event %s: %s was erased at %s', u, string_agg(public.audit_field_name(x.field), ', '), to_char(min(r.created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
      INTO done FROM unnest(events) u JOIN public.audit_erasures x ON x.tenant_id = tenant AND x.event_id = u AND x.field = ANY (fields) JOIN public.audit_events r ON r.tenant_id = tenant AND r.id = x.record_id
      GROUP BY u HAVING count(*) = cardinality(fields) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION '%', done USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
  END IF;
  record := public.audit_record(tenant, 'erasure', reason, by, jsonb_strip_nulls(jsonb_build_object('events', to_jsonb(events),
    'fields', (SELECT jsonb_agg(public.audit_field_name(f)) FROM unnest(fields) f), 'approved_by', approved_by)));
  PERFORM public.audit_announce('UPDATE', 'audit_events');
  UPDATE public.audit_events e SET
      agent_id       = CASE WHEN 1 = ANY (fields) THEN NULL ELSE e.agent_id END,
      user_id        = CASE WHEN 2 = ANY (fields) THEN NULL ELSE e.user_id END,
      input_summary  = CASE WHEN 4 = ANY (fields) THEN NULL ELSE e.input_summary END,
      output_summary = CASE WHEN 5 = ANY (fields) THEN NULL ELSE e.output_summary END,
      latency_ms     = CASE WHEN 6 = ANY (fields) THEN NULL ELSE e.latency_ms END,
      metadata       = CASE WHEN 7 = ANY (fields) THEN '{}' ELSE e.metadata END
    WHERE e.tenant_id = tenant AND e.id = ANY (events);
  PERFORM public.audit_announce('UPDATE', 'audit_seals');
  UPDATE public.audit_seals s SET salt = public.audit_forget(s.salt, fields) WHERE s.tenant_id = tenant AND s.event_id = ANY (events);
  PERFORM set_config('konstruct.act', '', true);
  INSERT INTO public.audit_erasures (tenant_id, event_id, field, record_id)
  SELECT tenant, e, f, record FROM unnest(events) e, unnest(fields) f ON CONFLICT DO NOTHING;
  RETURN record;
END $erase$;

-- Erases fields of a user's every event, all or none, and returns how many events those are. Who looks for the user again finds none, where user_id is among the fields.
CREATE FUNCTION public.audit_erase_user_now(tenant uuid, of_user text, fields smallint[], reason text, by text, approved_by text) RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE events uuid[]; n bigint := 0; after uuid;
BEGIN
  LOOP
    SELECT array_agg(id) INTO events FROM (SELECT e.id FROM public.audit_events e WHERE e.tenant_id = tenant AND e.user_id = of_user AND (after IS NULL OR e.id > after) AND NOT public.audit_is_act(e.action_type)
      AND cardinality(fields) > (SELECT count(*) FROM public.audit_erasures x WHERE x.tenant_id = tenant AND x.event_id = e.id AND x.field = ANY (fields)) ORDER BY e.id LIMIT 1000) e;
    EXIT WHEN events IS NULL;
    PERFORM public.audit_erase_now(tenant, events, fields, reason, by, approved_by, false);
    n := n + cardinality(events);
    after := events[cardinality(events)];
  END LOOP;
  IF n = 0 THEN
    RAISE EXCEPTION 'user_id: tenant % has no event of this user with such a field left', tenant USING ERRCODE = 'no_data_found';
  END IF;
  RETURN n;
END $erase$;

-- Erases fields of some events, or of a user's every event; where two people must agree, it only asks for that, and returns the request.
CREATE FUNCTION public.audit_erase(tenant uuid, events uuid[], of_user text, fields smallint[], reason text, OUT erased bigint, OUT request uuid)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $erase$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF (of_user IS NULL) = (coalesce(cardinality(events), 0) = 0) THEN
    RAISE EXCEPTION 'event: name events or a user_id, and not both' USING ERRCODE = 'invalid_parameter_value';
  ELSIF EXISTS (SELECT FROM public.audit_two_people p WHERE p.tenant_id = tenant) THEN
    INSERT INTO public.audit_requests (tenant_id, id, events, user_id, fields, reason, requested_by)
    VALUES (tenant, gen_random_uuid(), coalesce(events, '{}'), of_user, fields, reason, session_user) RETURNING id INTO request;
  ELSIF of_user IS NOT NULL THEN
    erased := public.audit_erase_user_now(tenant, of_user, fields, reason, session_user, NULL);
  ELSE
    PERFORM public.audit_erase_now(tenant, events, fields, reason, session_user, NULL, true);
    erased := cardinality(events);
  END IF;
END $erase$;

-- Carries out what another person asked for, or declines it.
CREATE FUNCTION public.audit_decide(tenant uuid, request uuid, approve boolean, reason text) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $decide$
DECLARE r public.audit_requests; n bigint := 0;
BEGIN
  PERFORM public.audit_act(tenant, reason);
  DELETE FROM public.audit_requests q WHERE q.tenant_id = tenant AND q.id = request RETURNING * INTO r;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'request: no erasure % waits for this tenant', request USING ERRCODE = 'no_data_found';
  ELSIF approve AND r.requested_by = session_user THEN
    RAISE EXCEPTION 'request: % asked for this erasure, and another person must approve it', session_user USING ERRCODE = 'insufficient_privilege',
      HINT = 'Each person needs a database role of their own, a member of konstruct_compliance.';
  ELSIF NOT approve THEN
    PERFORM public.audit_record(tenant, 'erasure_declined', reason, session_user, jsonb_build_object('requested_by', r.requested_by, 'events', cardinality(r.events)));
  ELSIF r.user_id IS NOT NULL THEN
    n := public.audit_erase_user_now(tenant, r.user_id, r.fields, r.reason, r.requested_by, session_user);
  ELSE
    PERFORM public.audit_erase_now(tenant, r.events, r.fields, r.reason, r.requested_by, session_user, true);
    n := cardinality(r.events);
  END IF;
  RETURN n;
END $decide$;

-- What waits for a second person.
CREATE FUNCTION public.audit_pending(tenant uuid) RETURNS SETOF public.audit_requests
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pending$
BEGIN
  PERFORM set_config('app.current_tenant', tenant::text, true);
  RETURN QUERY SELECT * FROM public.audit_requests q WHERE q.tenant_id = tenant ORDER BY requested_at LIMIT 1000;
END $pending$;

-- From now on two people must agree on this tenant's erasures. Only the schema's owner takes that back.
CREATE FUNCTION public.audit_require_two(tenant uuid, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $two$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  INSERT INTO public.audit_two_people (tenant_id, set_by) VALUES (tenant, session_user) ON CONFLICT DO NOTHING;
  PERFORM public.audit_record(tenant, 'retention_rule', reason, session_user, '{"two_people": true}');
END $two$;

-- Holds events: until it is released nothing that matches is erased or deleted.
CREATE FUNCTION public.audit_hold(tenant uuid, reason text, since timestamptz, until timestamptz, agent_id uuid, user_id text, action_type text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $hold$
#variable_conflict use_variable
DECLARE hold uuid := gen_random_uuid();
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF since >= until THEN
    RAISE EXCEPTION 'since: % is not before until (%)', since, until USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO public.audit_holds (tenant_id, id, reason, since, until, agent_id, user_id, action_type, placed_by)
  VALUES (tenant, hold, reason, since, until, agent_id, user_id, action_type, session_user);
  -- The event stays for good, so it does not name the user.
  PERFORM public.audit_record(tenant, 'legal_hold', reason, session_user, jsonb_strip_nulls(jsonb_build_object('hold', hold, 'placed', true,
    'since', since, 'until', until, 'agent_id', agent_id, 'action_type', action_type, 'of_one_user', CASE WHEN user_id IS NOT NULL THEN true END)));
  RETURN hold;
END $hold$;

CREATE FUNCTION public.audit_release(tenant uuid, hold uuid, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $release$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  UPDATE public.audit_holds h SET released_at = clock_timestamp(), released_by = session_user, user_id = NULL WHERE h.tenant_id = tenant AND h.id = hold AND h.released_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'hold: no hold % is in force for this tenant', hold USING ERRCODE = 'no_data_found';
  END IF;
  PERFORM public.audit_record(tenant, 'legal_hold', reason, session_user, jsonb_build_object('hold', hold, 'placed', false));
END $release$;

CREATE FUNCTION public.audit_list_holds(tenant uuid) RETURNS SETOF public.audit_holds
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $holds$
BEGIN
  PERFORM set_config('app.current_tenant', tenant::text, true);
  RETURN QUERY SELECT * FROM public.audit_holds h WHERE h.tenant_id = tenant ORDER BY placed_at DESC LIMIT 1000;
END $holds$;

-- No rule keeps events for less, whatever is configured: six months, as the EU's AI Act asks. A system that the act does not
-- bind has its owner replace this function.
CREATE FUNCTION public.audit_retention_floor() RETURNS interval LANGUAGE sql IMMUTABLE RETURN '184 days'::interval;

-- Sets how long a tenant's events of a type are kept, or of all other types where it is empty; NULL keeps them for good.
CREATE FUNCTION public.audit_retain(tenant uuid, action text, keep interval, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $retain$
#variable_conflict use_variable
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF keep < public.audit_retention_floor() THEN
    RAISE EXCEPTION 'keep: % is less than the floor of %', keep, public.audit_retention_floor() USING ERRCODE = 'invalid_parameter_value',
      HINT = 'docs/law.md says whom the floor binds, and how the owner of the schema sets another.';
  ELSIF public.audit_is_act(action) THEN
    RAISE EXCEPTION 'action_type: % records an act of the law, which is kept for good', action USING ERRCODE = 'invalid_parameter_value';
  ELSIF keep IS NULL THEN
    DELETE FROM public.audit_retention r WHERE r.tenant_id = tenant AND r.action_type = action;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'action_type: there is no rule for %', coalesce(nullif(action, ''), 'all others') USING ERRCODE = 'no_data_found';
    END IF;
  ELSE
    INSERT INTO public.audit_retention (tenant_id, action_type, keep, set_by) VALUES (tenant, action, keep, session_user)
    ON CONFLICT ON CONSTRAINT audit_retention_pkey DO UPDATE SET keep = excluded.keep, set_at = excluded.set_at, set_by = excluded.set_by;
  END IF;
  PERFORM public.audit_record(tenant, 'retention_rule', reason, session_user, jsonb_build_object('action_type', action, 'keep', keep));
END $retain$;

CREATE FUNCTION public.audit_list_retention(tenant uuid) RETURNS SETOF public.audit_retention
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $rules$
BEGIN
  PERFORM set_config('app.current_tenant', tenant::text, true);
  RETURN QUERY SELECT * FROM public.audit_retention r WHERE r.tenant_id = tenant ORDER BY action_type LIMIT 1000;
END $rules$;

-- A tenant's leaves [begin, upto) and their events: from full tiles, and from the heads since for the tile that is open.
CREATE FUNCTION public.audit_leaves(tenant uuid, begin bigint, upto bigint) RETURNS TABLE (leaf bigint, id uuid)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $leaves$
  SELECT first + i, encode(substr(ids, i * 16 + 1, 16), 'hex')::uuid
    FROM (SELECT tile * 256, event_ids FROM public.audit_tiles WHERE tenant_id = tenant AND level = 0 AND tile >= begin / 256 AND tile <= (upto - 1) / 256
          UNION ALL
          SELECT full_to, (SELECT string_agg(added_ids, '' ORDER BY size, anchor) FROM public.audit_heads WHERE tenant_id = tenant AND size > full_to)
            FROM (SELECT 256 * coalesce(max(tile) + 1, 0) FROM public.audit_tiles WHERE tenant_id = tenant AND level = 0) f (full_to) WHERE upto > full_to) t (first, ids),
         generate_series(0, octet_length(ids) / 16 - 1) i
   WHERE first + i >= begin AND first + i < upto
$leaves$;

-- Deletes what a tenant's rules no longer keep among its next leaves: not more than a signed checkpoint covers, and nothing held.
-- Time is the database's own, recorded_at, and of adopted events, which have none, created_at. Returns where to go on, NULL at the end,
-- and what went. With try nothing does.
CREATE FUNCTION public.audit_retire(tenant uuid, begin bigint, width integer, reason text, try boolean, OUT next bigint, OUT deleted bigint, OUT held bigint, OUT bytes bigint)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $retire$
DECLARE signed bigint; upto bigint; leaves bigint[]; events uuid[]; first bigint; bits bytea; record uuid; l bigint;
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF width NOT BETWEEN 1 AND 65536 THEN
    RAISE EXCEPTION 'width: % is not between 1 and 65536', width USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT coalesce(max(size), 0) INTO signed FROM public.audit_checkpoints WHERE tenant_id = tenant;
  upto := least(begin + width, signed);
  next := CASE WHEN upto < signed THEN upto END;
  -- Each leaf is looked up by its key (OFFSET 0): a planner that knows little of the tables reads a tenant's every event for each.
  SELECT array_agg(d.leaf ORDER BY d.leaf) FILTER (WHERE NOT d.kept), array_agg(d.id) FILTER (WHERE NOT d.kept), count(*) FILTER (WHERE d.kept), sum(d.size) FILTER (WHERE NOT d.kept)
    INTO leaves, events, held, bytes
    FROM (SELECT v.leaf, v.id, pg_column_size(e.*) + pg_column_size(s.*) AS size,
                 EXISTS (SELECT FROM public.audit_holds h WHERE h.tenant_id = tenant AND public.audit_protects(h, e.created_at, e.agent_id, e.user_id, e.action_type)) AS kept
            FROM public.audit_leaves(tenant, begin, upto) v
            CROSS JOIN LATERAL (SELECT * FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = v.id OFFSET 0) s
            CROSS JOIN LATERAL (SELECT * FROM public.audit_events e WHERE e.tenant_id = tenant AND e.id = v.id OFFSET 0) e
            LEFT JOIN public.audit_retention r ON r.tenant_id = tenant AND r.action_type = e.action_type
            LEFT JOIN public.audit_retention o ON o.tenant_id = tenant AND o.action_type = ''
           WHERE NOT public.audit_is_act(e.action_type) AND coalesce(r.keep, o.keep) IS NOT NULL
             AND CASE s.mode WHEN 1 THEN e.created_at ELSE s.recorded_at END < now() - greatest(coalesce(r.keep, o.keep), public.audit_retention_floor())) d;
  deleted := coalesce(cardinality(events), 0);
  bytes := coalesce(bytes, 0);
  IF deleted = 0 OR try THEN RETURN; END IF;
  first := leaves[1];
  bits := decode(repeat('00', ((leaves[deleted] - first) / 8 + 1)::integer), 'hex');
  FOREACH l IN ARRAY leaves LOOP bits := set_bit(bits, l - first, 1); END LOOP;
  record := public.audit_record(tenant, 'retention', reason, session_user, jsonb_build_object('first_leaf', first, 'deleted', deleted,
    'leaves', translate(encode(bits, 'base64'), E'\n', ''), 'kept_for', (SELECT jsonb_object_agg(action_type, keep) FROM public.audit_retention WHERE tenant_id = tenant)));
  INSERT INTO public.audit_gone (tenant_id, first, record_id, bits) VALUES (tenant, first, record, bits);
  PERFORM public.audit_announce('DELETE', 'audit_events');
  DELETE FROM public.audit_events e WHERE e.tenant_id = tenant AND e.id = ANY (events);
  PERFORM public.audit_announce('DELETE', 'audit_seals');
  DELETE FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = ANY (events);
  PERFORM set_config('konstruct.act', '', true);
  DELETE FROM public.audit_erasures x WHERE x.tenant_id = tenant AND x.event_id = ANY (events);
END $retire$;
-- +goose StatementEnd

-- After each row, so that COPY still writes many at once; the condition costs others nothing.
CREATE TRIGGER audit_act AFTER INSERT ON public.audit_events FOR EACH ROW WHEN (NEW.action_type IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule'))
  EXECUTE FUNCTION public.audit_refuse_act();
ALTER TABLE public.audit_events ENABLE ALWAYS TRIGGER audit_act;

-- The functions run as the owner, who sees the tenant that they name.
CREATE POLICY erasing ON public.audit_seals FOR UPDATE TO CURRENT_USER USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);
CREATE POLICY retiring ON public.audit_seals FOR DELETE TO CURRENT_USER USING (tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid);
CREATE POLICY notary_reads ON public.audit_erasures FOR SELECT TO konstruct_notary USING (true);
CREATE POLICY notary_reads ON public.audit_gone FOR SELECT TO konstruct_notary USING (true);
GRANT SELECT ON public.audit_erasures, public.audit_gone TO konstruct_notary;
-- What is erased is no secret: whoever reads the event sees that a field is gone.
GRANT SELECT ON public.audit_erasures TO konstruct_app;

-- +goose StatementBegin
DO $grants$
DECLARE f record;
BEGIN
  FOR f IN SELECT p.oid::regprocedure AS name, p.proname = ANY ('{audit_erase,audit_decide,audit_pending,audit_require_two,audit_hold,audit_release,audit_list_holds,audit_retain,audit_list_retention,audit_retire,audit_retention_floor}') AS law
             FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ('{audit_erase,audit_decide,audit_pending,audit_require_two,audit_hold,audit_release,audit_list_holds,audit_retain,audit_list_retention,audit_retire,audit_retention_floor,audit_announce,audit_refuse_act,audit_field_name,audit_forget,audit_protects,audit_held,audit_act,audit_is_act,audit_record,audit_erase_now,audit_erase_user_now,audit_leaves}') LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.name);
    IF f.law THEN EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO konstruct_compliance', f.name); END IF;
  END LOOP;
END $grants$;
-- +goose StatementEnd

-- +goose Down
-- What was erased or deleted does not come back.
DROP FUNCTION public.audit_retire(uuid, bigint, integer, text, boolean), public.audit_leaves(uuid, bigint, bigint), public.audit_list_retention(uuid), public.audit_retain(uuid, text, interval, text),
  public.audit_retention_floor(), public.audit_list_holds(uuid), public.audit_release(uuid, uuid, text), public.audit_hold(uuid, text, timestamptz, timestamptz, uuid, text, text),
  public.audit_require_two(uuid, text), public.audit_pending(uuid), public.audit_decide(uuid, uuid, boolean, text), public.audit_erase(uuid, uuid[], text, smallint[], text),
  public.audit_erase_user_now(uuid, text, smallint[], text, text, text), public.audit_erase_now(uuid, uuid[], smallint[], text, text, text, boolean),
  public.audit_record(uuid, text, text, text, jsonb), public.audit_act(uuid, text), public.audit_held(uuid, uuid[]), public.audit_protects(public.audit_holds, timestamptz, uuid, text, text), public.audit_forget(bytea, smallint[]),
  public.audit_field_name(smallint), public.audit_is_act(text), public.audit_announce(text, text);
DROP TRIGGER audit_act ON public.audit_events;
DROP FUNCTION public.audit_refuse_act();
DROP POLICY erasing ON public.audit_seals;
DROP POLICY retiring ON public.audit_seals;
DROP TABLE public.audit_requests, public.audit_two_people, public.audit_gone, public.audit_retention, public.audit_holds, public.audit_erasures;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION public.audit_refuse() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
  RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Record a correcting event instead.';
END $refuse$;
-- +goose StatementEnd
