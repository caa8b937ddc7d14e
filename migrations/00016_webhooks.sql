-- Webhooks: messages to a tenant's own HTTP endpoints, as https://www.standardwebhooks.com specifies.
--
-- A message is written by a trigger, in the transaction that records what it reports (a transactional outbox): so it is
-- neither lost nor invented, and no code path can forget it. Where no endpoint of the tenant subscribes to its type,
-- nothing is written: that costs one look at an index. Messages name ids and states, and no content.
--
-- River has a ticket for each tenant with deliveries that are due, as in 00009_jobs.sql. Deliveries wait for up to a
-- day, so a ticket waits as long, and a delivery that is due earlier adds another one: see fairqueue.Scheduler.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.webhook_endpoints (
  tenant_id       uuid        NOT NULL,
  id              uuid        NOT NULL,
  url             text        NOT NULL CHECK (octet_length(url) BETWEEN 1 AND 2000),
  description     text        NOT NULL DEFAULT '' CHECK (octet_length(description) <= 800),
  types           text[]      NOT NULL CHECK (cardinality(types) BETWEEN 1 AND 50),
  enabled         boolean     NOT NULL DEFAULT true,
  disabled_reason text        NOT NULL DEFAULT '',
  disabled_at     timestamptz,
  failing_since   timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  created_by      text        NOT NULL,
  updated_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);
COMMENT ON COLUMN public.webhook_endpoints.types IS 'the types of messages it gets; {*} is every type';
COMMENT ON COLUMN public.webhook_endpoints.failing_since IS
  'the first failed attempt since one succeeded; NULL where the last one did';

CREATE TABLE public.webhook_secrets (
  tenant_id   uuid        NOT NULL,
  endpoint_id uuid        NOT NULL,
  id          uuid        NOT NULL,
  sealed      bytea       NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 200),
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at  timestamptz,
  PRIMARY KEY (tenant_id, endpoint_id, id),
  FOREIGN KEY (tenant_id, endpoint_id) REFERENCES public.webhook_endpoints (tenant_id, id) ON DELETE CASCADE
);
COMMENT ON COLUMN public.webhook_secrets.sealed IS
  'the signing secret, encrypted with a key that is not in the database (webhook/secret.go)';
COMMENT ON COLUMN public.webhook_secrets.expires_at IS 'of one that was rotated: until then it signs too';

CREATE TABLE public.webhook_messages (
  tenant_id  uuid        NOT NULL,
  id         uuid        NOT NULL,
  type       text        NOT NULL,
  at         timestamptz NOT NULL,
  once       text,
  data       jsonb       NOT NULL CHECK (jsonb_typeof(data) = 'object'),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX ix_webhook_messages_once ON public.webhook_messages (tenant_id, once) WHERE once IS NOT NULL;
COMMENT ON COLUMN public.webhook_messages.id IS 'a UUIDv7; webhook-id is msg_ and its digits';
COMMENT ON COLUMN public.webhook_messages.once IS 'what there is at most one message of, as of a quota in an hour';

CREATE TABLE public.webhook_deliveries (
  tenant_id   uuid        NOT NULL,
  endpoint_id uuid        NOT NULL,
  message_id  uuid        NOT NULL,
  state       text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'delivered', 'dead')),
  due         timestamptz NOT NULL DEFAULT now(),
  attempts    integer     NOT NULL DEFAULT 0,
  tries       integer     NOT NULL DEFAULT 0,
  reason      text        NOT NULL DEFAULT '',
  finished_at timestamptz,
  PRIMARY KEY (tenant_id, endpoint_id, message_id),
  FOREIGN KEY (tenant_id, endpoint_id) REFERENCES public.webhook_endpoints (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, message_id) REFERENCES public.webhook_messages (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_webhook_deliveries_due ON public.webhook_deliveries (tenant_id, endpoint_id, due)
  WHERE state IN ('queued', 'running');
CREATE INDEX ix_webhook_deliveries_finished ON public.webhook_deliveries (tenant_id, state, finished_at)
  WHERE state IN ('delivered', 'dead');
CREATE INDEX ix_webhook_deliveries_message ON public.webhook_deliveries (tenant_id, message_id);
ALTER TABLE public.webhook_deliveries SET (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, fillfactor = 70);
COMMENT ON COLUMN public.webhook_deliveries.due IS
  'of a queued one: not before; of a running one: when somebody else may take it over';
COMMENT ON COLUMN public.webhook_deliveries.attempts IS
  'all of them: the number of the last one, which fences its worker';
COMMENT ON COLUMN public.webhook_deliveries.tries IS 'attempts since it was queued, or sent again by a person';

CREATE TABLE public.webhook_attempts (
  tenant_id   uuid        NOT NULL,
  endpoint_id uuid        NOT NULL,
  message_id  uuid        NOT NULL,
  attempt     integer     NOT NULL,
  started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  status      smallint,
  response    text        NOT NULL DEFAULT '',
  error       text        NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, endpoint_id, message_id, attempt),
  FOREIGN KEY (tenant_id, endpoint_id, message_id)
    REFERENCES public.webhook_deliveries (tenant_id, endpoint_id, message_id) ON DELETE CASCADE
);
COMMENT ON COLUMN public.webhook_attempts.status IS 'of the HTTP response; NULL where none came';
COMMENT ON COLUMN public.webhook_attempts.response IS 'the first bytes of the response''s body';

-- As 00013_statistics.sql says of texts; lists of texts likewise.
ALTER TABLE public.webhook_endpoints ALTER COLUMN url SET STATISTICS 0, ALTER COLUMN description SET STATISTICS 0,
  ALTER COLUMN types SET STATISTICS 0, ALTER COLUMN disabled_reason SET STATISTICS 0,
  ALTER COLUMN created_by SET STATISTICS 0;
ALTER TABLE public.webhook_secrets ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE public.webhook_messages ALTER COLUMN type SET STATISTICS 0, ALTER COLUMN once SET STATISTICS 0,
  ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE public.webhook_deliveries ALTER COLUMN state SET STATISTICS 0, ALTER COLUMN reason SET STATISTICS 0;
ALTER TABLE public.webhook_attempts ALTER COLUMN response SET STATISTICS 0, ALTER COLUMN error SET STATISTICS 0;

-- A UUIDv7 (RFC 9562): a tenant's messages are listed in the order of their ids.
CREATE FUNCTION public.webhook_message_id() RETURNS uuid
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
  RETURN encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substr(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 3) FROM 1 FOR 6), 52, 1), 53, 1),
    'hex')::uuid;

-- Writes a message and queues it for each enabled endpoint of the tenant that subscribes to its type; without one it
-- writes nothing. single is what there may be one message of, or NULL. The locks let an endpoint's deletion go first,
-- which would otherwise fail what is reported.
CREATE FUNCTION public.webhook_emit(tenant uuid, kind text, happened timestamptz, single text, data jsonb)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $emit$
DECLARE message uuid;
BEGIN
  IF NOT EXISTS (SELECT FROM public.webhook_endpoints e
                  WHERE e.tenant_id = tenant AND e.enabled AND e.types && ARRAY[kind, '*']) THEN RETURN; END IF;
  INSERT INTO public.webhook_messages (tenant_id, id, type, at, once, data)
  VALUES (tenant, public.webhook_message_id(), kind, happened, single, webhook_emit.data)
  ON CONFLICT (tenant_id, once) WHERE once IS NOT NULL DO NOTHING RETURNING id INTO message;
  IF message IS NULL THEN RETURN; END IF;
  INSERT INTO public.webhook_deliveries (tenant_id, endpoint_id, message_id, due)
  SELECT tenant, e.id, message, greatest(happened, now()) FROM public.webhook_endpoints e
   WHERE e.tenant_id = tenant AND e.enabled AND e.types && ARRAY[kind, '*'] FOR KEY SHARE;
END $emit$;

-- When an escalation is due that opens now: as its metadata says, or an hour later; within a year, so that a message
-- does not wait for ever. A due time that can't be read does not fail the event.
CREATE FUNCTION public.webhook_escalation_due(metadata jsonb) RETURNS timestamptz
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $due$
BEGIN
  IF metadata ? 'konstruct.escalation.due' THEN
    RETURN greatest(now(), least(now() + interval '366 days', (metadata->>'konstruct.escalation.due')::timestamptz));
  END IF;
  RETURN now() + interval '1 hour';
EXCEPTION WHEN data_exception THEN RETURN now() + interval '1 hour';
END $due$;

-- Reports events of the trail: escalations, failed verifications, a model's budget, and a notary that refuses. A
-- message that an escalation is due waits until then, and goes when it is resolved.
CREATE FUNCTION public.webhook_of_event() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $event$
DECLARE due timestamptz; escalation text;
BEGIN
  IF NOT EXISTS (SELECT FROM public.webhook_endpoints e WHERE e.tenant_id = NEW.tenant_id AND e.enabled) THEN
    RETURN NULL;
  END IF;
  CASE NEW.action_type
  WHEN 'escalation' THEN
    PERFORM public.webhook_emit(NEW.tenant_id, 'escalation.opened', now(), NULL,
      jsonb_build_object('escalation_id', NEW.id, 'agent_id', NEW.agent_id));
    due := public.webhook_escalation_due(NEW.metadata);
    PERFORM public.webhook_emit(NEW.tenant_id, 'escalation.due', due, 'escalation.due ' || NEW.id,
      jsonb_build_object('escalation_id', NEW.id, 'agent_id', NEW.agent_id, 'opened_at', now()));
  WHEN 'escalation_resolved' THEN
    escalation := NEW.metadata->>'konstruct.escalation.id';
    DELETE FROM public.webhook_messages m
     WHERE m.tenant_id = NEW.tenant_id AND m.once = 'escalation.due ' || escalation AND m.at > now();
    PERFORM public.webhook_emit(NEW.tenant_id, 'escalation.answered', now(), NULL,
      jsonb_build_object('escalation_id', escalation, 'event_id', NEW.id, 'agent_id', NEW.agent_id));
  WHEN 'trail_verification' THEN
    IF NEW.metadata->>'holds' = 'false' OR NEW.metadata #>> '{konstruct.access,made,holds}' = 'false' THEN
      PERFORM public.webhook_emit(NEW.tenant_id, 'verification.failed', now(), NULL,
        jsonb_build_object('event_id', NEW.id));
    END IF;
  WHEN 'model_call_refused' THEN
    IF NEW.metadata->>'error.type' = 'budget_exceeded' THEN
      PERFORM public.webhook_emit(NEW.tenant_id, 'quota.exceeded', now(),
        to_char(now() AT TIME ZONE 'UTC', '"quota.exceeded model_budget "YYYY-MM-DD"T"HH24'),
        jsonb_build_object('quota', 'model_budget', 'event_id', NEW.id));
    END IF;
  WHEN 'notary_refused' THEN
    PERFORM public.webhook_emit(NEW.tenant_id, 'notary.refused', now(),
      to_char(now() AT TIME ZONE 'UTC', '"notary.refused "YYYY-MM-DD"T"HH24'), jsonb_build_object('event_id', NEW.id));
  ELSE
  END CASE;
  RETURN NULL;
END $event$;
-- For each row: the condition costs an event of another type less than a statement's trigger, which would be called.
CREATE TRIGGER audit_webhooks AFTER INSERT ON public.audit_events FOR EACH ROW
  WHEN (NEW.action_type IN ('escalation', 'escalation_resolved', 'trail_verification', 'model_call_refused',
                            'notary_refused'))
  EXECUTE FUNCTION public.webhook_of_event();
ALTER TABLE public.audit_events ENABLE ALWAYS TRIGGER audit_webhooks;

CREATE FUNCTION public.webhook_of_job() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $job$
BEGIN
  PERFORM public.webhook_emit(NEW.tenant_id, 'ingest.finished', now(), NULL, jsonb_build_object(
    'job_id', NEW.id, 'state', NEW.state, 'outcome', NEW.outcome, 'document_id', NEW.document_id,
    'agent_id', NEW.agent_id));
  RETURN NULL;
END $job$;
CREATE TRIGGER webhook_of_job AFTER UPDATE OF state ON public.kb_jobs FOR EACH ROW
  WHEN (NEW.state IN ('done', 'failed') AND OLD.state IS DISTINCT FROM NEW.state)
  EXECUTE FUNCTION public.webhook_of_job();

-- Reports bundles and exports that are made or failed, and verifications that could not run.
CREATE FUNCTION public.webhook_of_file() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $file$
BEGIN
  IF NEW.kind <> 'verification' THEN
    PERFORM public.webhook_emit(NEW.tenant_id, 'export.finished', now(), NULL,
      jsonb_build_object('task_id', NEW.id, 'kind', NEW.kind, 'state', NEW.state));
  ELSIF NEW.state = 'failed' THEN
    PERFORM public.webhook_emit(NEW.tenant_id, 'verification.failed', now(), NULL,
      jsonb_build_object('task_id', NEW.id));
  END IF;
  RETURN NULL;
END $file$;
CREATE TRIGGER webhook_of_file AFTER UPDATE OF state ON public.artifact_files FOR EACH ROW
  WHEN (NEW.kind IN ('bundle', 'export', 'verification') AND NEW.state IN ('done', 'failed') AND OLD.state = 'open')
  EXECUTE FUNCTION public.webhook_of_file();

-- Makes sure that a tenant with queued deliveries has a ticket that is scheduled no later than they are due: see
-- kb_wake.
CREATE FUNCTION public.webhook_wake() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct webhooks ' || NEW.tenant_id, 0));
  IF current_setting('transaction_isolation') <> 'read committed' OR NOT EXISTS (
    SELECT FROM public.river_job r WHERE r.tenant_id = NEW.tenant_id AND r.queue = 'webhooks'
       AND r.finalized_at IS NULL AND (r.state <> 'scheduled' OR r.scheduled_at <= NEW.due)) THEN
    INSERT INTO public.river_job (kind, queue, args, state, scheduled_at)
    VALUES ('tenant', 'webhooks', jsonb_build_object('tenant', NEW.tenant_id),
      CASE WHEN NEW.due > now() THEN 'scheduled' ELSE 'available' END::public.river_job_state, NEW.due);
    IF NEW.due <= now() THEN PERFORM pg_notify('public.river_insert', '{"queue": "webhooks"}'); END IF;
  END IF;
  RETURN NULL;
END $wake$;
CREATE TRIGGER webhook_wake_queued AFTER INSERT ON public.webhook_deliveries
  FOR EACH ROW EXECUTE FUNCTION public.webhook_wake();
CREATE TRIGGER webhook_wake_again AFTER UPDATE ON public.webhook_deliveries
  FOR EACH ROW WHEN (NEW.state = 'queued' AND OLD.state <> 'queued')
  EXECUTE FUNCTION public.webhook_wake();

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'webhook_endpoints', 'webhook_secrets', 'webhook_messages',
    'webhook_deliveries', 'webhook_attempts');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.webhook_endpoints, public.webhook_secrets, public.webhook_messages,
  public.webhook_deliveries, public.webhook_attempts TO konstruct_app;
-- The worker sees whose deliveries and endpoints are in which state, so that doctor can tell.
CREATE POLICY worker_looks ON public.webhook_deliveries FOR SELECT TO konstruct_worker USING (true);
CREATE POLICY worker_looks ON public.webhook_endpoints FOR SELECT TO konstruct_worker USING (true);
GRANT SELECT (tenant_id, endpoint_id, state, due) ON public.webhook_deliveries TO konstruct_worker;
GRANT SELECT (tenant_id, id, enabled) ON public.webhook_endpoints TO konstruct_worker;
REVOKE ALL ON FUNCTION public.webhook_message_id, public.webhook_emit, public.webhook_escalation_due,
  public.webhook_of_event, public.webhook_of_job, public.webhook_of_file, public.webhook_wake FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.webhook_message_id, public.webhook_emit, public.webhook_escalation_due
  TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
-- Under forced row-level security the owner sees no rows, so it is lifted, only within this transaction.
ALTER TABLE public.river_job NO FORCE ROW LEVEL SECURITY;
DELETE FROM public.river_job WHERE queue = 'webhooks';
ALTER TABLE public.river_job FORCE ROW LEVEL SECURITY;
DROP TRIGGER audit_webhooks ON public.audit_events;
DROP TRIGGER webhook_of_job ON public.kb_jobs;
DROP TRIGGER webhook_of_file ON public.artifact_files;
DROP TABLE public.webhook_attempts, public.webhook_deliveries, public.webhook_messages, public.webhook_secrets,
  public.webhook_endpoints;
DROP FUNCTION public.webhook_of_event, public.webhook_of_job, public.webhook_of_file, public.webhook_wake,
  public.webhook_emit, public.webhook_escalation_due, public.webhook_message_id;
-- +goose StatementEnd
