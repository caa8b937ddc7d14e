-- Reports of calls that wait for the other report of the same call.
--
-- OpenTelemetry's libraries may report one call twice, as a log record and as a span, which their exporters send apart.
-- An event can't be changed, so a log record whose span is still to come waits here for it, some seconds at most, and
-- both become one event. River has a ticket for each tenant with reports, as in 00009_jobs.sql.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.audit_reports (
  tenant_id uuid        NOT NULL,
  event_id  uuid        NOT NULL,
  digest    bytea       NOT NULL CHECK (octet_length(digest) = 32),
  event     jsonb       NOT NULL,
  due       timestamptz NOT NULL,
  since     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, event_id, digest)
);
CREATE INDEX ix_audit_reports_due ON public.audit_reports (tenant_id, due);
ALTER TABLE public.audit_reports ALTER COLUMN digest SET STATISTICS 0, ALTER COLUMN event SET STATISTICS 0;
ALTER TABLE public.audit_reports SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE public.audit_reports IS
  'log records of calls whose spans are still to come: when due, each is logged as it is';
COMMENT ON COLUMN public.audit_reports.event_id IS 'what the event of both reports has as its id';
COMMENT ON COLUMN public.audit_reports.digest IS 'SHA-256 of the report, so that one sent twice waits once';
COMMENT ON COLUMN public.audit_reports.event IS 'the report alone, as it would be logged';

-- Makes sure that a tenant with waiting reports has a ticket: see kb_wake.
CREATE FUNCTION public.audit_wake_reports() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
DECLARE tenant uuid; first timestamptz;
BEGIN
  FOR tenant, first IN SELECT n.tenant_id, min(n.due) FROM new_reports n GROUP BY n.tenant_id LOOP
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct reports ' || tenant, 0));
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT EXISTS (
      SELECT FROM public.river_job r WHERE r.tenant_id = tenant AND r.queue = 'reports' AND r.finalized_at IS NULL) THEN
      INSERT INTO public.river_job (kind, queue, args, state, scheduled_at)
      VALUES ('tenant', 'reports', jsonb_build_object('tenant', tenant), 'scheduled', first);
    END IF;
  END LOOP;
  RETURN NULL;
END $wake$;
CREATE TRIGGER audit_reports_came AFTER INSERT ON public.audit_reports
  REFERENCING NEW TABLE AS new_reports FOR EACH STATEMENT EXECUTE FUNCTION public.audit_wake_reports();
ALTER TABLE public.audit_reports ENABLE ALWAYS TRIGGER audit_reports_came;
REVOKE ALL ON FUNCTION public.audit_wake_reports FROM PUBLIC;

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'audit_reports');
END $isolate$;
GRANT SELECT, INSERT, UPDATE (due), DELETE ON public.audit_reports TO konstruct_app;
-- The worker sees who waits and since when, as it does of tickets, so that doctor can say that nothing is logged.
CREATE POLICY worker_looks ON public.audit_reports FOR SELECT TO konstruct_worker USING (true);
GRANT SELECT (tenant_id, since) ON public.audit_reports TO konstruct_worker;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
-- Under forced row-level security the owner sees no rows, so it is lifted, only within this transaction.
ALTER TABLE public.audit_reports NO FORCE ROW LEVEL SECURITY;
ALTER TABLE public.river_job NO FORCE ROW LEVEL SECURITY;
DO $waiting$ BEGIN
  IF EXISTS (SELECT FROM public.audit_reports) THEN
    RAISE EXCEPTION 'reports of calls wait for their spans, and would be lost'
      USING HINT = 'Let konstruct serve run for a minute while nothing is sent: they are logged then.';
  END IF;
END $waiting$;
DELETE FROM public.river_job WHERE queue = 'reports';
ALTER TABLE public.river_job FORCE ROW LEVEL SECURITY;
DROP TABLE public.audit_reports;
DROP FUNCTION public.audit_wake_reports;
-- +goose StatementEnd
