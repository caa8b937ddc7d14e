-- What people ask of a trail: what happened in a run, where a word was said, what waits for a person. Under row security a condition
-- whose operator may leak (->>, @@) is not looked up in an index, because it would see other tenants' rows first. So the functions below
-- look up ids, of the tenant that is set, and superuser/finder.sql gives them to a role that nobody can be; the rows are read under row security as
-- ever. Until then they answer the same, more slowly.
-- +goose NO TRANSACTION
-- +goose Up
-- +goose StatementBegin
-- For the index of words, which costs writers half of what they can do and is made on request (konstruct migrate text-index): the words of an event's summaries, and its tenant as one more: a search meets its own tenant's alone, however common a word is.
CREATE OR REPLACE FUNCTION public.audit_words(tenant uuid, input text, output text) RETURNS tsvector
  LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
  RETURN array_to_tsvector(ARRAY['tenant ' || tenant]) || to_tsvector('pg_catalog.simple', left(coalesce(input, ''), 16000) || ' ' || left(coalesce(output, ''), 16000));
-- +goose StatementEnd

DROP INDEX IF EXISTS public.audit_events_escalations;
CREATE INDEX CONCURRENTLY audit_events_escalations ON public.audit_events (tenant_id, created_at DESC, id DESC) WHERE action_type = 'escalation';
-- A key of any length would not fit an index: its hash does.
DROP INDEX IF EXISTS public.audit_events_conversation;
CREATE INDEX CONCURRENTLY audit_events_conversation ON public.audit_events (tenant_id, hashtextextended(metadata->>'gen_ai.conversation.id', 0)) WHERE metadata ? 'gen_ai.conversation.id';
DROP INDEX IF EXISTS public.audit_events_trace;
CREATE INDEX CONCURRENTLY audit_events_trace ON public.audit_events (tenant_id, hashtextextended(metadata->>'trace_id', 0)) WHERE metadata ? 'trace_id';

-- A proof needs the roots of up to 255 tiles that lie all over the table, and nothing else of them.
DROP INDEX IF EXISTS public.audit_tiles_roots;
CREATE INDEX CONCURRENTLY audit_tiles_roots ON public.audit_tiles (tenant_id, level, tile) INCLUDE (root);

-- +goose StatementBegin
-- The events of a run, by its conversation's or its trace's id.
CREATE OR REPLACE FUNCTION public.audit_find_run(run text, most integer) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $run$
  SELECT id FROM public.audit_events WHERE tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid
     AND metadata ? 'gen_ai.conversation.id' AND hashtextextended(metadata->>'gen_ai.conversation.id', 0) = hashtextextended(run, 0) AND metadata->>'gen_ai.conversation.id' = run
  UNION
  SELECT id FROM public.audit_events WHERE tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid
     AND metadata ? 'trace_id' AND hashtextextended(metadata->>'trace_id', 0) = hashtextextended(run, 0) AND metadata->>'trace_id' = run
  LIMIT most
$run$;

-- The newest events in whose summaries the words stand, as websearch_to_tsquery reads them.
CREATE OR REPLACE FUNCTION public.audit_find_words(words text, since timestamptz, until timestamptz, before timestamptz, before_id uuid, most integer) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $words$
  SELECT id FROM public.audit_events WHERE tenant_id = NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid
     AND public.audit_words(tenant_id, input_summary, output_summary) @@ (websearch_to_tsquery('pg_catalog.simple', words)
       && quote_literal('tenant ' || NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid)::tsquery)
     AND numnode(websearch_to_tsquery('pg_catalog.simple', words)) > 0 -- of punctuation nothing is left
     AND (since IS NULL OR created_at >= since) AND (until IS NULL OR created_at < until) AND (before IS NULL OR (created_at, id) < (before, before_id))
   ORDER BY created_at DESC, id DESC LIMIT most
$words$;

DO $grants$
BEGIN
  REVOKE ALL ON FUNCTION public.audit_find_run(text, integer), public.audit_find_words(text, timestamptz, timestamptz, timestamptz, uuid, integer) FROM PUBLIC;
  GRANT EXECUTE ON FUNCTION public.audit_find_run(text, integer), public.audit_find_words(text, timestamptz, timestamptz, timestamptz, uuid, integer) TO konstruct_app;
END $grants$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION public.audit_find_run(text, integer), public.audit_find_words(text, timestamptz, timestamptz, timestamptz, uuid, integer);
DROP POLICY IF EXISTS finder_reads ON public.audit_events;
DROP INDEX public.audit_events_escalations, public.audit_events_conversation, public.audit_events_trace, public.audit_tiles_roots;
DROP INDEX IF EXISTS public.audit_events_words;
DROP FUNCTION public.audit_words(uuid, text, text);
