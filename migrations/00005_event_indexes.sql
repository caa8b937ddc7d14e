-- Indexes over events for the queries of a trail. An adopted database may have many events and active writers, so the
-- indexes are created concurrently, outside a transaction. An interrupted run starts again.
-- +goose NO TRANSACTION
-- +goose Up
DROP INDEX IF EXISTS public.audit_events_escalations;
CREATE INDEX CONCURRENTLY audit_events_escalations ON public.audit_events (tenant_id, created_at DESC, id DESC)
  WHERE action_type = 'escalation';

-- A key may be too long for an index entry, so the index has its hash.
DROP INDEX IF EXISTS public.audit_events_conversation;
CREATE INDEX CONCURRENTLY audit_events_conversation
  ON public.audit_events (tenant_id, hashtextextended(metadata->>'gen_ai.conversation.id', 0))
  WHERE metadata ? 'gen_ai.conversation.id';
DROP INDEX IF EXISTS public.audit_events_trace;
CREATE INDEX CONCURRENTLY audit_events_trace
  ON public.audit_events (tenant_id, hashtextextended(metadata->>'trace_id', 0)) WHERE metadata ? 'trace_id';

-- For checks of compliance acts (00007_compliance.sql), which read all of a tenant's acts; there are few.
DROP INDEX IF EXISTS public.audit_events_acts;
CREATE INDEX CONCURRENTLY audit_events_acts ON public.audit_events (tenant_id, created_at)
  WHERE action_type IN ('erasure', 'erasure_declined', 'legal_hold', 'retention', 'retention_rule',
                        'compliance_request', 'compliance_declined');

-- +goose Down
DROP INDEX public.audit_events_escalations, public.audit_events_conversation, public.audit_events_trace,
  public.audit_events_acts;
