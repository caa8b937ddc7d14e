-- Queries of a trail: the events of a run, text search in summaries, and daily statistics.
--
-- Under row-level security PostgreSQL does not use an index for a condition whose operator is not leakproof (->>, @@),
-- because it would be evaluated on other tenants' rows. So audit_find_run and audit_find_words return only ids, of the
-- current tenant, and superuser/finder.sql gives these functions to a role that nobody can become; the rows are then
-- read under row-level security. Until that script runs, they return the same, more slowly.
-- +goose Up
-- +goose StatementBegin

-- The words of an event's summaries, for the text index, which `konstruct migrate text-index` creates on request
-- because it halves write throughput. The tenant is one more word, so that a search reads only its own tenant's
-- entries.
CREATE FUNCTION public.audit_words(tenant uuid, input text, output text) RETURNS tsvector
  LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
  RETURN array_to_tsvector(ARRAY['tenant ' || tenant]) || to_tsvector('pg_catalog.simple',
    left(coalesce(input, ''), 16000) || ' ' || left(coalesce(output, ''), 16000));

-- Returns the ids of a run's events, by conversation id or trace id.
CREATE FUNCTION public.audit_find_run(run text, most integer) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $run$
  SELECT id FROM public.audit_events WHERE tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid
     AND metadata ? 'gen_ai.conversation.id'
     AND hashtextextended(metadata->>'gen_ai.conversation.id', 0) = hashtextextended(run, 0)
     AND metadata->>'gen_ai.conversation.id' = run
  UNION
  SELECT id FROM public.audit_events WHERE tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid
     AND metadata ? 'trace_id'
     AND hashtextextended(metadata->>'trace_id', 0) = hashtextextended(run, 0) AND metadata->>'trace_id' = run
  LIMIT most
$run$;

-- Returns the ids of the newest events whose summaries match a query in the syntax of websearch_to_tsquery.
CREATE FUNCTION public.audit_find_words(words text, since timestamptz, until timestamptz, before timestamptz,
    before_id uuid, most integer) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $words$
  SELECT id FROM public.audit_events WHERE tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid
     AND public.audit_words(tenant_id, input_summary, output_summary)
       @@ (websearch_to_tsquery('pg_catalog.simple', words)
         && quote_literal('tenant ' || NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid)::tsquery)
     AND numnode(websearch_to_tsquery('pg_catalog.simple', words)) > 0 -- of punctuation nothing is left
     AND (since IS NULL OR created_at >= since) AND (until IS NULL OR created_at < until)
     AND (before IS NULL OR (created_at, id) < (before, before_id))
   ORDER BY created_at DESC, id DESC LIMIT most
$words$;

-- A cache of daily statistics: past days rarely change, and reading their events for every query takes about 5 µs an
-- event. A cached day is valid while it has as many events as when it was cached, and none of them was erased or
-- deleted since.
CREATE TABLE public.audit_days (
  tenant_id     uuid      NOT NULL,
  day           date      NOT NULL,
  part          integer   NOT NULL,
  agent_id      uuid,
  model         text,
  action_type   text      NOT NULL,
  events        bigint    NOT NULL,
  errors        bigint    NOT NULL,
  input_tokens  bigint    NOT NULL,
  output_tokens bigint    NOT NULL,
  latencies     integer[] NOT NULL,
  PRIMARY KEY (tenant_id, day, part)
);
COMMENT ON COLUMN public.audit_days.day IS 'of created_at, UTC';
COMMENT ON COLUMN public.audit_days.part IS 'one for each agent, model and action of the day';
COMMENT ON COLUMN public.audit_days.latencies IS 'in milliseconds, of the events that say theirs, ascending';
DO $isolate$ BEGIN PERFORM public.konstruct_isolate('ALL', 'audit_days'); END $isolate$;
GRANT SELECT ON public.audit_days TO konstruct_app;

-- Returns the current tenant's daily statistics of events from since to upto, both inclusive; NULL means no bound. The
-- bounds must be plain parameters: arithmetic on them is not leakproof and would prevent the use of the index. A token
-- count that is not a sensible number counts as zero.
CREATE FUNCTION public.audit_figures(since timestamptz, upto timestamptz)
  RETURNS TABLE (day date, agent_id uuid, model text, action_type text, events bigint, errors bigint,
    input_tokens bigint, output_tokens bigint, latencies integer[])
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $figures$
  SELECT e.day, e.agent_id, e.model, e.action_type, count(*), count(*) FILTER (WHERE e.failed),
         coalesce(sum(CASE WHEN jsonb_typeof(e.i) = 'number' AND e.i::numeric BETWEEN 0 AND 1e9
           THEN e.i::numeric END), 0)::bigint,
         coalesce(sum(CASE WHEN jsonb_typeof(e.o) = 'number' AND e.o::numeric BETWEEN 0 AND 1e9
           THEN e.o::numeric END), 0)::bigint,
         coalesce(array_agg(e.latency_ms ORDER BY e.latency_ms) FILTER (WHERE e.latency_ms IS NOT NULL), '{}')
    FROM (SELECT CASE WHEN isfinite(created_at) THEN (created_at AT TIME ZONE 'UTC')::date END AS day, agent_id,
                 metadata->>'gen_ai.request.model' AS model, action_type, metadata ? 'error.type' AS failed,
                 metadata->'gen_ai.usage.input_tokens' AS i, metadata->'gen_ai.usage.output_tokens' AS o, latency_ms
            FROM public.audit_events
           WHERE tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid
             AND created_at >= coalesce(since, '-infinity') AND created_at <= coalesce(upto, 'infinity') OFFSET 0) e
   GROUP BY e.day, e.agent_id, e.model, e.action_type
$figures$;

-- Computes and caches the current tenant's past days. It waits for compliance acts in progress, and they wait for it,
-- at most ten seconds: a day cached after an act does not contain what the act removed.
CREATE FUNCTION public.audit_count_days(days date[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $count$
DECLARE tenant uuid := NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'tenant: none is set'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'SET LOCAL app.current_tenant first.';
  ELSIF cardinality(days) > 366 THEN
    RAISE EXCEPTION 'days: % at once, the limit is 366', cardinality(days) USING ERRCODE = 'invalid_parameter_value';
  ELSIF EXISTS (SELECT FROM unnest(days) d WHERE d IS NULL OR NOT isfinite(d)
           OR d >= (clock_timestamp() AT TIME ZONE 'UTC')::date OR d < '0001-01-01') THEN
    RAISE EXCEPTION 'days: one has not passed' USING ERRCODE = 'invalid_parameter_value';
  ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'days are counted in READ COMMITTED, where each statement sees what was committed before it'
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
  PERFORM FROM public.audit_logs l WHERE l.tenant_id = tenant FOR UPDATE;
  DELETE FROM public.audit_days WHERE tenant_id = tenant AND day = ANY (days);
  INSERT INTO public.audit_days (tenant_id, day, part, agent_id, model, action_type, events, errors, input_tokens,
    output_tokens, latencies)
  SELECT tenant, d, row_number() OVER (PARTITION BY d), f.agent_id, f.model, f.action_type, f.events, f.errors,
         f.input_tokens, f.output_tokens, f.latencies
    FROM (SELECT DISTINCT unnest(days)) u (d)
    CROSS JOIN LATERAL public.audit_figures(d::timestamp AT TIME ZONE 'UTC',
      (d::timestamp + interval '1 day' - interval '1 microsecond') AT TIME ZONE 'UTC') f;
END $count$;

-- A change or deletion of an event deletes the cached statistics of its day.
CREATE FUNCTION public.audit_forget_days() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $forget$
BEGIN
  DELETE FROM public.audit_days d
   USING (SELECT DISTINCT tenant_id, (created_at AT TIME ZONE 'UTC')::date AS day
            FROM old_events WHERE isfinite(created_at)) o
   WHERE d.tenant_id = o.tenant_id AND d.day = o.day;
  RETURN NULL;
END $forget$;
CREATE TRIGGER audit_forget_days_changed AFTER UPDATE ON public.audit_events
  REFERENCING OLD TABLE AS old_events FOR EACH STATEMENT EXECUTE FUNCTION public.audit_forget_days();
CREATE TRIGGER audit_forget_days_deleted AFTER DELETE ON public.audit_events
  REFERENCING OLD TABLE AS old_events FOR EACH STATEMENT EXECUTE FUNCTION public.audit_forget_days();
ALTER TABLE public.audit_events
  ENABLE ALWAYS TRIGGER audit_forget_days_changed, ENABLE ALWAYS TRIGGER audit_forget_days_deleted;

REVOKE ALL ON FUNCTION public.audit_find_run, public.audit_find_words, public.audit_figures, public.audit_count_days,
  public.audit_forget_days FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_find_run, public.audit_find_words, public.audit_figures,
  public.audit_count_days TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER audit_forget_days_changed ON public.audit_events;
DROP TRIGGER audit_forget_days_deleted ON public.audit_events;
DROP FUNCTION public.audit_forget_days, public.audit_count_days, public.audit_figures, public.audit_find_run,
  public.audit_find_words;
DROP TABLE public.audit_days;
DROP POLICY IF EXISTS finder_reads ON public.audit_events;
DROP INDEX IF EXISTS public.audit_events_words;
DROP FUNCTION public.audit_words;
