-- The compliance role's own limits hold: days are whole and checked, NULL decides nothing, two people also release holds and shorten
-- rules, and nobody but a member of konstruct_compliance performs an act, the schema's owner and superusers included. What a function changes is
-- bound to the record that it leaves, and not to a setting. docs/law.md.
-- +goose Up

-- +goose StatementBegin
DO $days$
DECLARE floor integer;
BEGIN
  SELECT greatest(0, extract(epoch FROM public.audit_retention_floor()) / 86400)::integer INTO floor;
  -- The owner sees no rows under forced RLS; lifted inside this transaction only.
  ALTER TABLE public.audit_retention NO FORCE ROW LEVEL SECURITY;
  ALTER TABLE public.audit_retention ADD COLUMN keep_days integer;
  -- A rule that got under the floor (intervals compare with months of 30 days) keeps for as long as the floor asks.
  UPDATE public.audit_retention SET keep_days = least(36500, greatest(1, floor, floor(extract(epoch FROM now() - (now() - keep)) / 86400)));
  ALTER TABLE public.audit_retention FORCE ROW LEVEL SECURITY;
  DROP FUNCTION public.audit_retire(uuid, bigint, integer, text, boolean), public.audit_list_retention(uuid), public.audit_retain(uuid, text, interval, text), public.audit_retention_floor();
  ALTER TABLE public.audit_retention DROP COLUMN keep, ALTER COLUMN keep_days SET NOT NULL, ADD CONSTRAINT keep_days CHECK (keep_days BETWEEN 1 AND 36500);
  EXECUTE format('CREATE FUNCTION public.audit_retention_floor() RETURNS integer LANGUAGE sql IMMUTABLE RETURN %s', floor);
END $days$;

-- What waits for a second person: of whatever kind.
ALTER TABLE public.audit_requests ADD COLUMN act text NOT NULL DEFAULT 'erasure' CHECK (act IN ('erasure', 'release', 'retention_rule', 'one_person')),
  ADD COLUMN hold uuid, ADD COLUMN action_type text, ADD COLUMN keep_days integer;

DROP FUNCTION public.audit_decide(uuid, uuid, boolean, text), public.audit_pending(uuid), public.audit_release(uuid, uuid, text), public.audit_announce(text, text),
  public.audit_record(uuid, text, text, text, jsonb), public.audit_erase_now(uuid, uuid[], smallint[], text, text, text, boolean), public.audit_erase_user_now(uuid, text, smallint[], text, text, text);

-- Whether who logged in is a member of konstruct_compliance, and neither a superuser nor the schema's owner, whatever role is set now.
CREATE FUNCTION public.audit_by_compliance() RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $by$
  WITH RECURSIVE me AS (SELECT oid FROM pg_roles WHERE rolname = session_user AND NOT rolsuper AND oid <> (SELECT relowner FROM pg_class WHERE oid = 'public.audit_seals'::regclass)),
  roles (oid) AS (SELECT oid FROM me UNION SELECT m.roleid FROM pg_auth_members m JOIN roles r ON m.member = r.oid)
  SELECT EXISTS (SELECT FROM roles JOIN pg_roles USING (oid) WHERE rolname = 'konstruct_compliance')
$by$;

-- Refuses every change, whoever asks.
CREATE OR REPLACE FUNCTION public.audit_refuse() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
  RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Record a correcting event instead.';
END $refuse$;

-- Refuses every change but those that a function below makes for a member of konstruct_compliance; what it may change is
-- held by the triggers after it.
CREATE FUNCTION public.audit_refuse_unlawful() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
  IF TG_OP <> 'TRUNCATE' AND public.audit_by_compliance() AND current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Record a correcting event instead.';
END $refuse$;

-- Only the functions below write such events: what says that an erasure was lawful is not for the service, the owner or a superuser to write.
CREATE OR REPLACE FUNCTION public.audit_refuse_act() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $act$
BEGIN
  IF public.audit_by_compliance() AND current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'action_type: % records an act of the law, which konstruct_compliance alone performs', NEW.action_type USING ERRCODE = 'insufficient_privilege';
END $act$;

CREATE OR REPLACE FUNCTION public.audit_is_act(action text) RETURNS boolean
  LANGUAGE sql IMMUTABLE RETURN action IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule', 'compliance_request', 'compliance_declined');

-- An event's fields may change only into nothing, and only as an erasure says that this transaction sealed.
CREATE FUNCTION public.audit_hold_erasure() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong uuid;
BEGIN
  SELECT n.id INTO wrong FROM (SELECT *, row_number() OVER () AS place FROM new_rows) n FULL JOIN (SELECT *, row_number() OVER () AS place FROM old_rows) o USING (place)
   CROSS JOIN LATERAL (SELECT coalesce(array_agg(x.field), '{}') AS fields FROM public.audit_erasures x JOIN public.audit_seals s ON s.tenant_id = x.tenant_id AND s.event_id = x.record_id
      WHERE x.tenant_id = n.tenant_id AND x.event_id = n.id AND s.xid = pg_current_xact_id_if_assigned()) e
   WHERE (n.tenant_id, n.id, n.action_type, n.created_at) IS DISTINCT FROM (o.tenant_id, o.id, o.action_type, o.created_at)
      OR n.agent_id IS DISTINCT FROM o.agent_id AND NOT (n.agent_id IS NULL AND 1 = ANY (e.fields))
      OR n.user_id IS DISTINCT FROM o.user_id AND NOT (n.user_id IS NULL AND 2 = ANY (e.fields))
      OR n.input_summary IS DISTINCT FROM o.input_summary AND NOT (n.input_summary IS NULL AND 4 = ANY (e.fields))
      OR n.output_summary IS DISTINCT FROM o.output_summary AND NOT (n.output_summary IS NULL AND 5 = ANY (e.fields))
      OR n.latency_ms IS DISTINCT FROM o.latency_ms AND NOT (n.latency_ms IS NULL AND 6 = ANY (e.fields))
      OR n.metadata IS DISTINCT FROM o.metadata AND NOT (n.metadata = '{}' AND 7 = ANY (e.fields))
      OR public.audit_is_act(o.action_type) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event % is changed by more than an erasure of this transaction says', wrong USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;

-- A seal loses salts of the fields that are erased, and nothing else of it changes.
CREATE FUNCTION public.audit_hold_salts() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong uuid;
BEGIN
  SELECT n.event_id INTO wrong FROM (SELECT *, row_number() OVER () AS place FROM new_rows) n FULL JOIN (SELECT *, row_number() OVER () AS place FROM old_rows) o USING (place)
   CROSS JOIN LATERAL (SELECT array_agg(x.field) AS fields FROM public.audit_erasures x WHERE x.tenant_id = n.tenant_id AND x.event_id = n.event_id) e
   WHERE (n.tenant_id, n.event_id, n.mode, n.commitments, n.leaf_hash, n.xid, n.recorded_at, n.epoch) IS DISTINCT FROM (o.tenant_id, o.event_id, o.mode, o.commitments, o.leaf_hash, o.xid, o.recorded_at, o.epoch)
      OR e.fields IS NULL OR n.salt IS DISTINCT FROM public.audit_forget(o.salt, e.fields) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the seal of event % is changed by more than its erasure says', wrong USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;

-- Events go only in the number that a retention of this transaction says, and never acts.
CREATE FUNCTION public.audit_hold_deletion() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong record;
BEGIN
  SELECT o.tenant_id, count(*) AS n INTO wrong FROM old_rows o GROUP BY o.tenant_id
  HAVING bool_or(public.audit_is_act(o.action_type)) OR count(*) <> (SELECT coalesce(sum((e.metadata->>'deleted')::bigint), 0) FROM public.audit_events e JOIN public.audit_seals s ON s.tenant_id = e.tenant_id AND s.event_id = e.id
     WHERE e.tenant_id = o.tenant_id AND e.action_type = 'retention' AND s.xid = pg_current_xact_id_if_assigned()) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% events of tenant % are deleted, and no act of this transaction says so', wrong.n, wrong.tenant_id USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;

-- A seal goes after its event.
CREATE FUNCTION public.audit_hold_seals() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE wrong uuid;
BEGIN
  SELECT o.event_id INTO wrong FROM old_rows o JOIN public.audit_events e ON e.tenant_id = o.tenant_id AND e.id = o.event_id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the seal of event % is deleted, and the event is there', wrong USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $hold$;

-- An adoption ends once, and changes in no other way.
CREATE FUNCTION public.audit_refuse_adoption() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $adoption$
BEGIN
  IF (NEW.tenant_id, NEW.started_at) = (OLD.tenant_id, OLD.started_at) AND OLD.finished_at IS NULL AND NEW.finished_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'UPDATE of audit_adoptions is refused: an adoption ends once' USING ERRCODE = 'insufficient_privilege';
END $adoption$;

-- Makes the tenant the session's, for this transaction, checks what every act needs (who asks, a reason, a tenant that is there), and
-- lets one act at a time happen to a tenant: a hold is in force when it is acknowledged. The lock is on a row that no other role may lock.
CREATE OR REPLACE FUNCTION public.audit_act(tenant uuid, reason text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $act$
DECLARE waits text := coalesce(current_setting('lock_timeout', true), '0');
BEGIN
  IF NOT public.audit_by_compliance() THEN
    RAISE EXCEPTION '% is no member of konstruct_compliance, which alone performs acts of the law', session_user USING ERRCODE = 'insufficient_privilege',
      HINT = 'Superusers and the owner of the schema are refused too: log in with a person''s own role that is a member.';
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

-- Records an act as an event of the tenant's, which must be sealed, and returns its id.
CREATE FUNCTION public.audit_record(tenant uuid, action text, reason text, by text, what jsonb) RETURNS uuid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $record$
DECLARE record uuid;
BEGIN
  INSERT INTO public.audit_events (id, tenant_id, user_id, action_type, input_summary, metadata, created_at)
  VALUES (gen_random_uuid(), tenant, by, action, reason, what, clock_timestamp()) RETURNING id INTO record;
  IF NOT EXISTS (SELECT FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = record AND s.xid = pg_current_xact_id()) THEN
    RAISE EXCEPTION 'event % is not sealed: nothing is done', record USING ERRCODE = 'integrity_constraint_violation',
      HINT = 'Something on audit_events was switched off or diverts its rows: konstruct doctor names it.';
  END IF;
  RETURN record;
END $record$;

-- Refuses a list that can't mean anything: none, too long, with NULL or one thing twice, or a table of lists.
CREATE FUNCTION public.audit_check_list(what text, list anycompatiblearray, most integer) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $list$
BEGIN
  IF coalesce(cardinality(list), 0) = 0 OR array_ndims(list) <> 1 OR array_lower(list, 1) <> 1 THEN
    RAISE EXCEPTION '%: must be a list of some', what USING ERRCODE = 'invalid_parameter_value';
  ELSIF cardinality(list) > most THEN
    RAISE EXCEPTION '%: % %s at once, the limit is %', what, cardinality(list), what, most USING ERRCODE = 'invalid_parameter_value';
  ELSIF cardinality(list) <> (SELECT count(DISTINCT u) FROM unnest(list) u) THEN
    RAISE EXCEPTION '%: one is missing or named twice', what USING ERRCODE = 'invalid_parameter_value';
  END IF;
END $list$;

CREATE FUNCTION public.audit_check_fields(fields smallint[]) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $fields$
BEGIN
  IF coalesce(cardinality(fields), 0) = 0 OR NOT fields <@ '{1,2,4,5,6,7}' THEN
    RAISE EXCEPTION 'field: must name some of agent_id, user_id, input_summary, output_summary, latency_ms, metadata' USING ERRCODE = 'invalid_parameter_value',
      HINT = 'action_type can''t be erased: the schema wants one in every event, and an exclusion is proven by it.';
  END IF;
  PERFORM public.audit_check_list('field', fields, 6);
END $fields$;

-- Erases fields of at most a thousand events that no hold protects. Fields that are erased already are left out; an event of which all
-- are is an error when strict.
CREATE FUNCTION public.audit_erase_now(tenant uuid, events uuid[], fields smallint[], reason text, by text, approved_by text, request uuid, strict boolean) RETURNS uuid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE missing uuid; done text; held text; record uuid;
BEGIN
  PERFORM public.audit_check_fields(fields);
  PERFORM public.audit_check_list('event', events, 1000);
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
    'fields', (SELECT jsonb_agg(public.audit_field_name(f)) FROM unnest(fields) f), 'approved_by', approved_by, 'request', request)));
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
  UPDATE public.audit_seals s SET salt = public.audit_forget(s.salt, fields) WHERE s.tenant_id = tenant AND s.event_id = ANY (events);
  RETURN record;
END $erase$;

-- Erases fields of a user's every event, all or none, and returns how many events those are. Who looks for the user again finds none, where user_id is among the fields.
CREATE FUNCTION public.audit_erase_user_now(tenant uuid, of_user text, fields smallint[], reason text, by text, approved_by text, request uuid) RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $erase$
DECLARE events uuid[]; n bigint := 0; after uuid;
BEGIN
  PERFORM public.audit_check_fields(fields);
  LOOP
    SELECT array_agg(id) INTO events FROM (SELECT e.id FROM public.audit_events e WHERE e.tenant_id = tenant AND e.user_id = of_user AND (after IS NULL OR e.id > after) AND NOT public.audit_is_act(e.action_type)
      AND cardinality(fields) > (SELECT count(*) FROM public.audit_erasures x WHERE x.tenant_id = tenant AND x.event_id = e.id AND x.field = ANY (fields)) ORDER BY e.id LIMIT 1000) e;
    EXIT WHEN events IS NULL;
    PERFORM public.audit_erase_now(tenant, events, fields, reason, by, approved_by, request, false);
    n := n + cardinality(events);
    after := events[cardinality(events)];
  END LOOP;
  IF n = 0 THEN
    RAISE EXCEPTION 'user_id: tenant % has no event of this user with such a field left', tenant USING ERRCODE = 'no_data_found';
  END IF;
  RETURN n;
END $erase$;

-- Whether two people must agree.
CREATE FUNCTION public.audit_needs_two(tenant uuid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$SELECT EXISTS (SELECT FROM public.audit_two_people p WHERE p.tenant_id = tenant)$$;

-- Asks for a second person, on the record. The event stays for good, so it does not name the user; events and fields it does.
CREATE FUNCTION public.audit_ask(tenant uuid, what text, events uuid[], of_user text, fields smallint[], hold uuid, action text, days integer, reason text) RETURNS uuid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $ask$
#variable_conflict use_variable
DECLARE request uuid := gen_random_uuid();
BEGIN
  IF (SELECT count(*) FROM public.audit_requests q WHERE q.tenant_id = tenant) >= 1000 THEN
    RAISE EXCEPTION 'request: 1000 wait already' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Have them approved or declined first.';
  END IF;
  INSERT INTO public.audit_requests (tenant_id, id, act, events, user_id, fields, hold, action_type, keep_days, reason, requested_by)
  VALUES (tenant, request, what, coalesce(events, '{}'), of_user, coalesce(fields, '{}'), hold, action, days, reason, session_user);
  PERFORM public.audit_record(tenant, 'compliance_request', reason, session_user, jsonb_strip_nulls(jsonb_build_object('request', request, 'act', what, 'events', CASE WHEN events <> '{}' THEN to_jsonb(events) END,
    'of_one_user', CASE WHEN of_user IS NOT NULL THEN true END, 'fields', (SELECT jsonb_agg(public.audit_field_name(f)) FROM unnest(fields) f), 'hold', hold, 'action_type', action))
    || CASE WHEN what = 'retention_rule' THEN jsonb_build_object('keep_days', days) ELSE '{}' END);
  RETURN request;
END $ask$;

-- Erases fields of some events, or of a user's every event; where two people must agree, it only asks for that, and returns the request.
CREATE OR REPLACE FUNCTION public.audit_erase(tenant uuid, events uuid[], of_user text, fields smallint[], reason text, OUT erased bigint, OUT request uuid)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $erase$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  PERFORM public.audit_check_fields(fields);
  IF (of_user IS NULL) = (coalesce(cardinality(events), 0) = 0) THEN
    RAISE EXCEPTION 'event: name events or a user_id, and not both' USING ERRCODE = 'invalid_parameter_value';
  ELSIF length(of_user) > 1024 THEN
    RAISE EXCEPTION 'user_id: is % characters long, the limit is 1024', length(of_user) USING ERRCODE = 'invalid_parameter_value';
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

CREATE FUNCTION public.audit_release_now(tenant uuid, hold uuid, reason text, by text, approved_by text, request uuid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $release$
BEGIN
  UPDATE public.audit_holds h SET released_at = clock_timestamp(), released_by = by, user_id = NULL WHERE h.tenant_id = tenant AND h.id = hold AND h.released_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'hold: no hold % is in force for this tenant', hold USING ERRCODE = 'no_data_found';
  END IF;
  PERFORM public.audit_record(tenant, 'legal_hold', reason, by, jsonb_strip_nulls(jsonb_build_object('hold', hold, 'placed', false, 'approved_by', approved_by, 'request', request)));
END $release$;

-- Ends a hold; where two people must agree, it only asks for that, and returns the request.
CREATE FUNCTION public.audit_release(tenant uuid, hold uuid, reason text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $release$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF hold IS NULL OR NOT EXISTS (SELECT FROM public.audit_holds h WHERE h.tenant_id = tenant AND h.id = hold AND h.released_at IS NULL) THEN
    RAISE EXCEPTION 'hold: no hold % is in force for this tenant', hold USING ERRCODE = 'no_data_found';
  ELSIF public.audit_needs_two(tenant) THEN
    RETURN public.audit_ask(tenant, 'release', NULL, NULL, NULL, hold, NULL, NULL, reason);
  END IF;
  PERFORM public.audit_release_now(tenant, hold, reason, session_user, NULL, NULL);
  RETURN NULL;
END $release$;

-- No rule keeps events for fewer days than public.audit_retention_floor(), whatever is configured: six months, as the EU's AI Act asks. A system
-- that the act does not bind has its owner replace that function.
CREATE FUNCTION public.audit_retain_now(tenant uuid, action text, days integer, reason text, by text, approved_by text, request uuid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $retain$
BEGIN
  IF days IS NULL THEN
    DELETE FROM public.audit_retention r WHERE r.tenant_id = tenant AND r.action_type = action;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'action_type: there is no rule for %', coalesce(nullif(action, ''), 'all others') USING ERRCODE = 'no_data_found';
    END IF;
  ELSE
    INSERT INTO public.audit_retention (tenant_id, action_type, keep_days, set_by) VALUES (tenant, action, days, by)
    ON CONFLICT ON CONSTRAINT audit_retention_pkey DO UPDATE SET keep_days = excluded.keep_days, set_at = clock_timestamp(), set_by = excluded.set_by;
  END IF;
  PERFORM public.audit_record(tenant, 'retention_rule', reason, by, jsonb_build_object('action_type', action, 'keep_days', days, 'floor_days', public.audit_retention_floor())
    || jsonb_strip_nulls(jsonb_build_object('approved_by', approved_by, 'request', request)));
END $retain$;

-- Sets for how many days a tenant's events of a type are kept, or of all other types where it is empty; NULL keeps them for good. Where two
-- people must agree to what keeps less, or takes a rule back, it only asks for that, and returns the request.
CREATE FUNCTION public.audit_retain(tenant uuid, action text, keep_days integer, reason text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $retain$
#variable_conflict use_variable
DECLARE now_kept integer;
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF action IS NULL OR length(action) > 1024 THEN
    RAISE EXCEPTION 'action_type: must be there, '''' for all others, and at most 1024 characters long' USING ERRCODE = 'invalid_parameter_value';
  ELSIF keep_days < public.audit_retention_floor() THEN
    RAISE EXCEPTION 'keep: % days is less than the floor of % days', keep_days, public.audit_retention_floor() USING ERRCODE = 'invalid_parameter_value',
      HINT = 'docs/law.md says whom the floor binds, and how the owner of the schema sets another.';
  ELSIF keep_days NOT BETWEEN 1 AND 36500 THEN
    RAISE EXCEPTION 'keep: % days is not between 1 and 36500', keep_days USING ERRCODE = 'invalid_parameter_value';
  ELSIF public.audit_is_act(action) THEN
    RAISE EXCEPTION 'action_type: % records an act of the law, which is kept for good', action USING ERRCODE = 'invalid_parameter_value';
  ELSIF keep_days IS NULL AND NOT EXISTS (SELECT FROM public.audit_retention r WHERE r.tenant_id = tenant AND r.action_type = action) THEN
    RAISE EXCEPTION 'action_type: there is no rule for %', coalesce(nullif(action, ''), 'all others') USING ERRCODE = 'no_data_found';
  END IF;
  SELECT r.keep_days INTO now_kept FROM public.audit_retention r WHERE r.tenant_id = tenant AND r.action_type IN (action, '') ORDER BY r.action_type = action DESC LIMIT 1;
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

-- From now on two people must agree on this tenant's erasures, on releasing its holds, and on what keeps its events for less.
CREATE OR REPLACE FUNCTION public.audit_require_two(tenant uuid, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $two$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  INSERT INTO public.audit_two_people (tenant_id, set_by) VALUES (tenant, session_user) ON CONFLICT DO NOTHING;
  PERFORM public.audit_record(tenant, 'retention_rule', reason, session_user, '{"two_people": true}');
END $two$;

-- Asks that one person be enough again, to which another must agree.
CREATE FUNCTION public.audit_require_one(tenant uuid, reason text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $one$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  IF NOT public.audit_needs_two(tenant) THEN
    RAISE EXCEPTION 'tenant: one person is enough for % already', tenant USING ERRCODE = 'no_data_found';
  END IF;
  RETURN public.audit_ask(tenant, 'one_person', NULL, NULL, NULL, NULL, NULL, NULL, reason);
END $one$;

-- Carries out what another person asked for, or declines it.
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
    PERFORM public.audit_record(tenant, CASE r.act WHEN 'erasure' THEN 'erasure_declined' ELSE 'compliance_declined' END, reason, session_user,
      jsonb_build_object('request', r.id, 'act', r.act, 'requested_by', r.requested_by) || CASE r.act WHEN 'erasure' THEN jsonb_build_object('events', cardinality(r.events)) ELSE '{}' END);
    RETURN 0;
  ELSIF r.requested_by IS NOT DISTINCT FROM session_user::text THEN
    RAISE EXCEPTION 'request: % asked for this, and another person must approve it', session_user USING ERRCODE = 'insufficient_privilege',
      HINT = 'Each person needs a database role of their own, a member of konstruct_compliance.';
  END IF;
  CASE r.act
  WHEN 'release' THEN
    PERFORM public.audit_release_now(tenant, r.hold, r.reason, r.requested_by, session_user, r.id);
  WHEN 'retention_rule' THEN
    PERFORM public.audit_retain_now(tenant, r.action_type, r.keep_days, r.reason, r.requested_by, session_user, r.id);
  WHEN 'one_person' THEN
    DELETE FROM public.audit_two_people p WHERE p.tenant_id = tenant;
    PERFORM public.audit_record(tenant, 'retention_rule', r.reason, r.requested_by, jsonb_build_object('two_people', false, 'approved_by', session_user, 'request', r.id));
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

-- What waits for a second person.
CREATE FUNCTION public.audit_pending(tenant uuid) RETURNS SETOF public.audit_requests
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pending$
BEGIN
  PERFORM set_config('app.current_tenant', coalesce(tenant::text, ''), true);
  RETURN QUERY SELECT * FROM public.audit_requests q WHERE q.tenant_id = tenant ORDER BY requested_at LIMIT 1000;
END $pending$;

CREATE OR REPLACE FUNCTION public.audit_list_holds(tenant uuid) RETURNS SETOF public.audit_holds
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $holds$
BEGIN
  PERFORM set_config('app.current_tenant', coalesce(tenant::text, ''), true);
  RETURN QUERY SELECT * FROM public.audit_holds h WHERE h.tenant_id = tenant ORDER BY placed_at DESC LIMIT 1000;
END $holds$;

-- Holds events: until it is released nothing that matches is erased or deleted.
CREATE OR REPLACE FUNCTION public.audit_hold(tenant uuid, reason text, since timestamptz, until timestamptz, agent_id uuid, user_id text, action_type text) RETURNS uuid
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
    RAISE EXCEPTION 'hold: 1000 are in force already' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Release those that are over, or place a wider one.';
  END IF;
  INSERT INTO public.audit_holds (tenant_id, id, reason, since, until, agent_id, user_id, action_type, placed_by)
  VALUES (tenant, hold, reason, since, until, agent_id, user_id, action_type, session_user);
  -- The event stays for good, so it does not name the user.
  PERFORM public.audit_record(tenant, 'legal_hold', reason, session_user, jsonb_strip_nulls(jsonb_build_object('hold', hold, 'placed', true,
    'since', since, 'until', until, 'agent_id', agent_id, 'action_type', action_type, 'of_one_user', CASE WHEN user_id IS NOT NULL THEN true END)));
  RETURN hold;
END $hold$;

-- How many leaves a signed checkpoint covered before a time: what the log itself proves to be that old. Heads stand in the order of time, so it is found by halving.
CREATE FUNCTION public.audit_size_before(tenant uuid, before timestamptz) RETURNS bigint
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $size$
DECLARE low bigint := 0; high bigint; middle bigint; s bigint; t timestamptz; found bigint := 0;
BEGIN
  SELECT coalesce(max(size), 0) + 1 INTO high FROM public.audit_checkpoints WHERE tenant_id = tenant;
  WHILE high - low > 1 LOOP
    middle := low + (high - low) / 2;
    SELECT h.size INTO s FROM public.audit_heads h WHERE h.tenant_id = tenant AND h.size <= middle ORDER BY h.size DESC LIMIT 1;
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

-- Deletes what a tenant's rules no longer keep among its next leaves: nothing that no signed checkpoint proves to be old enough, and nothing held.
-- Returns where to go on, NULL at the end, and what went. With try nothing does.
CREATE FUNCTION public.audit_retire(tenant uuid, begin bigint, width integer, reason text, try boolean, OUT next bigint, OUT deleted bigint, OUT held bigint, OUT bytes bigint)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $retire$
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
  -- Each leaf is looked up by its key (OFFSET 0): a planner that knows little of the tables reads a tenant's every event for each.
  WITH rules AS MATERIALIZED (
    SELECT action_type, public.audit_size_before(tenant, now() - greatest(keep_days, public.audit_retention_floor()) * interval '24 hours') AS size FROM public.audit_retention WHERE tenant_id = tenant)
  SELECT array_agg(d.leaf ORDER BY d.leaf) FILTER (WHERE NOT d.kept), array_agg(d.id) FILTER (WHERE NOT d.kept), count(*) FILTER (WHERE d.kept), sum(d.size) FILTER (WHERE NOT d.kept)
    INTO leaves, events, held, bytes
    FROM (SELECT v.leaf, v.id, pg_column_size(e.*) + pg_column_size(s.*) AS size,
                 EXISTS (SELECT FROM public.audit_holds h WHERE h.tenant_id = tenant AND public.audit_protects(h, e.created_at, e.agent_id, e.user_id, e.action_type)) AS kept
            FROM public.audit_leaves(tenant, begin, least(upto, (SELECT max(size) FROM rules))) v
            CROSS JOIN LATERAL (SELECT * FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = v.id OFFSET 0) s
            CROSS JOIN LATERAL (SELECT * FROM public.audit_events e WHERE e.tenant_id = tenant AND e.id = v.id OFFSET 0) e
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
  record := public.audit_record(tenant, 'retention', reason, session_user, jsonb_build_object('first_leaf', first, 'deleted', deleted,
    'leaves', translate(encode(bits, 'base64'), E'\n', ''), 'floor_days', public.audit_retention_floor(),
    'kept_for', (SELECT jsonb_object_agg(action_type, keep_days) FROM public.audit_retention WHERE tenant_id = tenant)));
  INSERT INTO public.audit_gone (tenant_id, first, record_id, bits) VALUES (tenant, first, record, bits);
  DELETE FROM public.audit_events e WHERE e.tenant_id = tenant AND e.id = ANY (events);
  DELETE FROM public.audit_seals s WHERE s.tenant_id = tenant AND s.event_id = ANY (events);
  DELETE FROM public.audit_erasures x WHERE x.tenant_id = tenant AND x.event_id = ANY (events);
END $retire$;

-- Counts days that have passed, of the tenant that is set. It waits for acts of the law under way, and they, ten seconds at most, for it: what is
-- counted after one does not hold what it took away.
CREATE OR REPLACE FUNCTION public.audit_count_days(days date[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $count$
DECLARE tenant uuid := NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'tenant: none is set' USING ERRCODE = 'invalid_parameter_value', HINT = 'SET LOCAL app.current_tenant first.';
  ELSIF cardinality(days) > 366 THEN
    RAISE EXCEPTION 'days: % at once, the limit is 366', cardinality(days) USING ERRCODE = 'invalid_parameter_value';
  ELSIF EXISTS (SELECT FROM unnest(days) d WHERE d IS NULL OR NOT isfinite(d) OR d >= (clock_timestamp() AT TIME ZONE 'UTC')::date OR d < '0001-01-01') THEN
    RAISE EXCEPTION 'days: one has not passed' USING ERRCODE = 'invalid_parameter_value';
  ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'days are counted in READ COMMITTED, where each statement sees what was committed before it' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  PERFORM FROM public.audit_logs l WHERE l.tenant_id = tenant FOR UPDATE;
  DELETE FROM public.audit_days WHERE tenant_id = tenant AND day = ANY (days);
  INSERT INTO public.audit_days (tenant_id, day, part, agent_id, model, action_type, events, errors, input_tokens, output_tokens, latencies)
  SELECT tenant, d, row_number() OVER (PARTITION BY d), f.agent_id, f.model, f.action_type, f.events, f.errors, f.input_tokens, f.output_tokens, f.latencies
    FROM (SELECT DISTINCT unnest(days)) u (d)
    CROSS JOIN LATERAL public.audit_figures(d::timestamp AT TIME ZONE 'UTC', (d::timestamp + interval '1 day' - interval '1 microsecond') AT TIME ZONE 'UTC') f;
END $count$;

DROP TRIGGER audit_act ON public.audit_events;
CREATE TRIGGER audit_act AFTER INSERT ON public.audit_events FOR EACH ROW
  WHEN (NEW.action_type IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule', 'compliance_request', 'compliance_declined')) EXECUTE FUNCTION public.audit_refuse_act();

DO $triggers$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['audit_events', 'audit_seals'] LOOP
    EXECUTE format('DROP TRIGGER audit_refuse ON public.%I', t);
    EXECUTE format('CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_unlawful()', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['audit_erasures', 'audit_holds', 'audit_retention', 'audit_gone', 'audit_two_people', 'audit_requests'] LOOP
    EXECUTE format('CREATE TRIGGER audit_refuse BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_unlawful()', t);
  END LOOP;
  CREATE TRIGGER audit_refuse BEFORE INSERT OR DELETE OR TRUNCATE ON public.audit_adoptions FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse();
  CREATE TRIGGER audit_refuse_adoption BEFORE UPDATE ON public.audit_adoptions FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_adoption();
  CREATE TRIGGER audit_hold_erasure AFTER UPDATE ON public.audit_events REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_erasure();
  CREATE TRIGGER audit_hold_deletion AFTER DELETE ON public.audit_events REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_deletion();
  CREATE TRIGGER audit_hold_salts AFTER UPDATE ON public.audit_seals REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_salts();
  CREATE TRIGGER audit_hold_seals AFTER DELETE ON public.audit_seals REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.audit_hold_seals();
  FOR t IN SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname) FROM pg_trigger
            WHERE tgname IN ('audit_refuse', 'audit_act', 'audit_refuse_adoption', 'audit_hold_erasure', 'audit_hold_deletion', 'audit_hold_salts', 'audit_hold_seals') AND NOT tgisinternal LOOP
    EXECUTE t;
  END LOOP;
END $triggers$;

DO $grants$
DECLARE f record;
BEGIN
  FOR f IN SELECT p.oid::regprocedure AS name, p.proname = ANY ('{audit_decide,audit_pending,audit_release,audit_retain,audit_list_retention,audit_retire,audit_retention_floor,audit_require_one}') AS law
             FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ('{audit_decide,audit_pending,audit_release,audit_retain,audit_list_retention,audit_retire,audit_retention_floor,audit_require_one,audit_by_compliance,audit_refuse_unlawful,audit_hold_erasure,audit_hold_salts,audit_hold_deletion,audit_hold_seals,audit_refuse_adoption,audit_record,audit_check_list,audit_check_fields,audit_erase_now,audit_erase_user_now,audit_needs_two,audit_ask,audit_release_now,audit_retain_now,audit_size_before}') LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.name);
    IF f.law THEN EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO konstruct_compliance', f.name); END IF;
  END LOOP;
END $grants$;
-- +goose StatementEnd

-- Those who judge acts read a tenant's all, which are few.
CREATE INDEX audit_events_acts ON public.audit_events (tenant_id, created_at)
  WHERE action_type IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule', 'compliance_request', 'compliance_declined');

-- +goose Down
-- The functions of 00007 and 00009 again; acts since then stay on the trail as they are.
DROP INDEX public.audit_events_acts;
-- +goose StatementBegin
DO $triggers$
DECLARE t text;
BEGIN
  FOR t IN SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal
             AND (tgname IN ('audit_refuse_adoption', 'audit_hold_erasure', 'audit_hold_deletion', 'audit_hold_salts', 'audit_hold_seals')
               OR tgname = 'audit_refuse' AND tgrelid::regclass::text ~ 'audit_(events|seals|erasures|holds|retention|gone|two_people|requests|adoptions)$') LOOP
    EXECUTE t;
  END LOOP;
END $triggers$;
DROP TRIGGER audit_act ON public.audit_events;
DROP FUNCTION public.audit_decide(uuid, uuid, boolean, text), public.audit_pending(uuid), public.audit_release(uuid, uuid, text), public.audit_retain(uuid, text, integer, text), public.audit_list_retention(uuid), public.audit_retire(uuid, bigint, integer, text, boolean), public.audit_retention_floor(), public.audit_require_one(uuid, text), public.audit_refuse_unlawful(), public.audit_hold_erasure(), public.audit_hold_salts(), public.audit_hold_deletion(), public.audit_hold_seals(), public.audit_refuse_adoption(), public.audit_record(uuid, text, text, text, jsonb), public.audit_check_fields(smallint[]), public.audit_check_list(text, anycompatiblearray, integer), public.audit_erase_now(uuid, uuid[], smallint[], text, text, text, uuid, boolean), public.audit_erase_user_now(uuid, text, smallint[], text, text, text, uuid), public.audit_needs_two(uuid), public.audit_ask(uuid, text, uuid[], text, smallint[], uuid, text, integer, text), public.audit_release_now(uuid, uuid, text, text, text, uuid), public.audit_retain_now(uuid, text, integer, text, text, text, uuid), public.audit_size_before(uuid, timestamptz);
ALTER TABLE public.audit_requests DROP COLUMN act, DROP COLUMN hold, DROP COLUMN action_type, DROP COLUMN keep_days;
ALTER TABLE public.audit_retention ADD COLUMN keep interval;
ALTER TABLE public.audit_retention NO FORCE ROW LEVEL SECURITY;
UPDATE public.audit_retention SET keep = make_interval(days => keep_days);
ALTER TABLE public.audit_retention FORCE ROW LEVEL SECURITY;
ALTER TABLE public.audit_retention DROP COLUMN keep_days, ALTER COLUMN keep SET NOT NULL;
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
CREATE OR REPLACE FUNCTION public.audit_announce(act text, on_table text) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$SELECT set_config('konstruct.act', format('%s %s %s', act, on_table, pg_current_xact_id()), true)$$;
CREATE OR REPLACE FUNCTION public.audit_is_act(action text) RETURNS boolean
  LANGUAGE sql IMMUTABLE RETURN action IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule');
CREATE OR REPLACE FUNCTION public.audit_refuse_act() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $act$
BEGIN
  IF current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
    RAISE EXCEPTION 'action_type: % records an act of the law, which konstruct_compliance alone performs', NEW.action_type USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $act$;
CREATE OR REPLACE FUNCTION public.audit_act(tenant uuid, reason text) RETURNS void
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
CREATE OR REPLACE FUNCTION public.audit_record(tenant uuid, action text, reason text, by text, what jsonb) RETURNS uuid
  LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $record$
  INSERT INTO public.audit_events (id, tenant_id, user_id, action_type, input_summary, metadata, created_at)
  VALUES (gen_random_uuid(), tenant, by, action, reason, what, clock_timestamp()) RETURNING id
$record$;
CREATE OR REPLACE FUNCTION public.audit_erase_now(tenant uuid, events uuid[], fields smallint[], reason text, by text, approved_by text, strict boolean) RETURNS uuid
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
CREATE OR REPLACE FUNCTION public.audit_erase_user_now(tenant uuid, of_user text, fields smallint[], reason text, by text, approved_by text) RETURNS bigint
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
CREATE OR REPLACE FUNCTION public.audit_erase(tenant uuid, events uuid[], of_user text, fields smallint[], reason text, OUT erased bigint, OUT request uuid)
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
CREATE OR REPLACE FUNCTION public.audit_decide(tenant uuid, request uuid, approve boolean, reason text) RETURNS bigint
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
CREATE OR REPLACE FUNCTION public.audit_pending(tenant uuid) RETURNS SETOF public.audit_requests
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pending$
BEGIN
  PERFORM set_config('app.current_tenant', tenant::text, true);
  RETURN QUERY SELECT * FROM public.audit_requests q WHERE q.tenant_id = tenant ORDER BY requested_at LIMIT 1000;
END $pending$;
CREATE OR REPLACE FUNCTION public.audit_require_two(tenant uuid, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $two$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  INSERT INTO public.audit_two_people (tenant_id, set_by) VALUES (tenant, session_user) ON CONFLICT DO NOTHING;
  PERFORM public.audit_record(tenant, 'retention_rule', reason, session_user, '{"two_people": true}');
END $two$;
CREATE OR REPLACE FUNCTION public.audit_hold(tenant uuid, reason text, since timestamptz, until timestamptz, agent_id uuid, user_id text, action_type text) RETURNS uuid
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
CREATE OR REPLACE FUNCTION public.audit_release(tenant uuid, hold uuid, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $release$
BEGIN
  PERFORM public.audit_act(tenant, reason);
  UPDATE public.audit_holds h SET released_at = clock_timestamp(), released_by = session_user, user_id = NULL WHERE h.tenant_id = tenant AND h.id = hold AND h.released_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'hold: no hold % is in force for this tenant', hold USING ERRCODE = 'no_data_found';
  END IF;
  PERFORM public.audit_record(tenant, 'legal_hold', reason, session_user, jsonb_build_object('hold', hold, 'placed', false));
END $release$;
CREATE OR REPLACE FUNCTION public.audit_list_holds(tenant uuid) RETURNS SETOF public.audit_holds
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $holds$
BEGIN
  PERFORM set_config('app.current_tenant', tenant::text, true);
  RETURN QUERY SELECT * FROM public.audit_holds h WHERE h.tenant_id = tenant ORDER BY placed_at DESC LIMIT 1000;
END $holds$;
CREATE OR REPLACE FUNCTION public.audit_retention_floor() RETURNS interval LANGUAGE sql IMMUTABLE RETURN '184 days'::interval;
CREATE OR REPLACE FUNCTION public.audit_retain(tenant uuid, action text, keep interval, reason text) RETURNS void
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
CREATE OR REPLACE FUNCTION public.audit_list_retention(tenant uuid) RETURNS SETOF public.audit_retention
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $rules$
BEGIN
  PERFORM set_config('app.current_tenant', tenant::text, true);
  RETURN QUERY SELECT * FROM public.audit_retention r WHERE r.tenant_id = tenant ORDER BY action_type LIMIT 1000;
END $rules$;
CREATE OR REPLACE FUNCTION public.audit_retire(tenant uuid, begin bigint, width integer, reason text, try boolean, OUT next bigint, OUT deleted bigint, OUT held bigint, OUT bytes bigint)
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
CREATE OR REPLACE FUNCTION public.audit_count_days(days date[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $count$
DECLARE tenant uuid := NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'tenant: none is set' USING ERRCODE = 'invalid_parameter_value', HINT = 'SET LOCAL app.current_tenant first.';
  ELSIF cardinality(days) > 366 THEN
    RAISE EXCEPTION 'days: % at once, the limit is 366', cardinality(days) USING ERRCODE = 'invalid_parameter_value';
  ELSIF EXISTS (SELECT FROM unnest(days) d WHERE d IS NULL OR NOT isfinite(d) OR d >= (clock_timestamp() AT TIME ZONE 'UTC')::date) THEN
    RAISE EXCEPTION 'days: one has not passed' USING ERRCODE = 'invalid_parameter_value';
  ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'days are counted in READ COMMITTED, where each statement sees what was committed before it' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('konstruct law ' || tenant, 0));
  DELETE FROM public.audit_days WHERE tenant_id = tenant AND day = ANY (days);
  INSERT INTO public.audit_days (tenant_id, day, part, agent_id, model, action_type, events, errors, input_tokens, output_tokens, latencies)
  SELECT tenant, d, row_number() OVER (PARTITION BY d), f.agent_id, f.model, f.action_type, f.events, f.errors, f.input_tokens, f.output_tokens, f.latencies
    FROM (SELECT DISTINCT unnest(days)) u (d)
    CROSS JOIN LATERAL public.audit_figures(d::timestamp AT TIME ZONE 'UTC', (d::timestamp + interval '1 day' - interval '1 microsecond') AT TIME ZONE 'UTC') f;
END $count$;
DROP FUNCTION public.audit_by_compliance();
CREATE TRIGGER audit_act AFTER INSERT ON public.audit_events FOR EACH ROW WHEN (NEW.action_type IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule'))
  EXECUTE FUNCTION public.audit_refuse_act();
ALTER TABLE public.audit_events ENABLE ALWAYS TRIGGER audit_act;
DO $triggers$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['audit_events', 'audit_seals'] LOOP
    EXECUTE format('CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse()', t);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse', t);
  END LOOP;
END $triggers$;
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
