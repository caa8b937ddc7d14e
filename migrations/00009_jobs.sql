-- Ingest jobs, and the order of uploads and deletions.
--
-- A queued document is a row of kb_jobs, written in the transaction that enqueues it. River (https://riverqueue.com)
-- schedules the tenants: it has one ticket for each tenant with queued jobs, however many, and a ticket goes to the
-- queue's end after each turn (round robin). Tickets name only a tenant. The role that schedules them,
-- konstruct_worker, sees no tenant's rows.
-- +goose Up
-- +goose StatementBegin
DO $role$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'konstruct_worker') THEN
    BEGIN
      CREATE ROLE konstruct_worker NOLOGIN;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE EXCEPTION 'role konstruct_worker does not exist and % may not create it', current_user
        USING HINT = 'As a superuser run: CREATE ROLE konstruct_worker LOGIN PASSWORD ''…'';';
    END;
  END IF;
END $role$;
GRANT USAGE ON SCHEMA public TO konstruct_worker;
GRANT EXECUTE ON FUNCTION public.konstruct_schema TO konstruct_worker;

-- An upload is not stored if, since then, its source was deleted or a newer upload of that source was stored. Uploads
-- and deletions are numbered; the order does not depend on clocks.
CREATE SEQUENCE public.kb_seq;
REVOKE ALL ON SEQUENCE public.kb_seq FROM PUBLIC;
GRANT USAGE ON SEQUENCE public.kb_seq TO konstruct_app;
COMMENT ON SEQUENCE public.kb_seq IS 'the order of uploads and deletions, of all tenants';

CREATE TABLE public.kb_jobs (
  tenant_id   uuid        NOT NULL,
  id          uuid        NOT NULL,
  agent_id    uuid        NOT NULL,
  source      text        NOT NULL,
  filename    text        NOT NULL,
  labels      text[],
  sees        text[]      NOT NULL DEFAULT '{}',
  given       jsonb,
  etag        text        NOT NULL DEFAULT '',
  leaf        boolean     NOT NULL DEFAULT false,
  seq         bigint      NOT NULL DEFAULT nextval('public.kb_seq'),
  state       text        NOT NULL DEFAULT 'queued'
    CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
  attempt     integer     NOT NULL DEFAULT 0,
  due         timestamptz NOT NULL DEFAULT now(),
  chunks      integer     NOT NULL DEFAULT 0,
  embedded    integer     NOT NULL DEFAULT 0,
  document_id uuid,
  outcome     text        NOT NULL DEFAULT '',
  reason      text        NOT NULL DEFAULT '',
  enqueued_at timestamptz NOT NULL DEFAULT now(),
  started_at  timestamptz,
  finished_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
COMMENT ON COLUMN public.kb_jobs.labels IS
  'as those of kb_sources; where it is NULL those stay as they are, and so of given';
COMMENT ON COLUMN public.kb_jobs.sees IS
  'the labels of whoever handed it over: a document that they may not see is not replaced';
COMMENT ON COLUMN public.kb_jobs.leaf IS 'a page that a list named, and no list itself';
COMMENT ON COLUMN public.kb_jobs.seq IS
  'of its upload; what an archive or a list holds has that of the archive or list';
COMMENT ON COLUMN public.kb_jobs.due IS
  'of one that waits: not before; of one that runs: when somebody else may take it over';
CREATE INDEX ix_kb_jobs_state ON public.kb_jobs (tenant_id, state, due, id);
CREATE INDEX ix_kb_jobs_source ON public.kb_jobs (tenant_id, source);
ALTER TABLE public.kb_jobs SET (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, fillfactor = 80);

CREATE TABLE public.kb_uploads (
  tenant_id uuid  NOT NULL,
  job_id    uuid  NOT NULL,
  content   bytea NOT NULL,
  PRIMARY KEY (tenant_id, job_id),
  FOREIGN KEY (tenant_id, job_id) REFERENCES public.kb_jobs (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE public.kb_uploads ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE public.kb_uploads IS
  'the file of a job that is not done; a job without one names a page by its URL';

CREATE TABLE public.kb_tombstones (
  tenant_id     uuid   NOT NULL,
  source_sha256 bytea  NOT NULL CHECK (octet_length(source_sha256) = 32),
  seq           bigint NOT NULL,
  PRIMARY KEY (tenant_id, source_sha256)
);
COMMENT ON TABLE public.kb_tombstones IS
  'sources that were deleted, and when: nothing older of them is stored. A row goes when something newer is';

-- River's tables of version 0.51 (its migration 8), with a tenant for each ticket.
CREATE TYPE public.river_job_state AS ENUM
  ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled');
CREATE TABLE public.river_job (
  id            bigserial              PRIMARY KEY,
  state         public.river_job_state NOT NULL DEFAULT 'available',
  attempt       smallint               NOT NULL DEFAULT 0,
  max_attempts  smallint               NOT NULL DEFAULT 25
    CONSTRAINT max_attempts_is_positive CHECK (max_attempts > 0),
  attempted_at  timestamptz,
  created_at    timestamptz            NOT NULL DEFAULT now(),
  finalized_at  timestamptz,
  scheduled_at  timestamptz            NOT NULL DEFAULT now(),
  priority      smallint               NOT NULL DEFAULT 1
    CONSTRAINT priority_in_range CHECK (priority >= 1 AND priority <= 4),
  args          jsonb                  NOT NULL,
  attempted_by  text[],
  errors        jsonb[],
  kind          text                   NOT NULL
    CONSTRAINT kind_length CHECK (char_length(kind) > 0 AND char_length(kind) < 128),
  metadata      jsonb                  NOT NULL DEFAULT '{}',
  queue         text                   NOT NULL DEFAULT 'default'
    CONSTRAINT queue_length CHECK (char_length(queue) > 0 AND char_length(queue) < 128),
  tags          varchar(255)[]         NOT NULL DEFAULT '{}',
  unique_key    bytea,
  unique_states bit(8),
  tenant_id     uuid                   NOT NULL GENERATED ALWAYS AS ((args->>'tenant')::uuid) STORED,
  CONSTRAINT finalized_or_finalized_at_null
    CHECK ((finalized_at IS NULL) = (state NOT IN ('cancelled', 'completed', 'discarded')))
);
CREATE INDEX river_job_kind ON public.river_job (kind);
CREATE INDEX river_job_state_and_finalized_at_index ON public.river_job (state, finalized_at)
  WHERE finalized_at IS NOT NULL;
CREATE INDEX river_job_prioritized_fetching_index ON public.river_job (state, queue, priority, scheduled_at, id);
CREATE INDEX river_job_open ON public.river_job (tenant_id) WHERE finalized_at IS NULL;
ALTER TABLE public.river_job SET (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200, fillfactor = 50);
CREATE FUNCTION public.river_job_state_in_bitmask(bitmask bit(8), state public.river_job_state) RETURNS boolean
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $bitmask$
  SELECT CASE state
    WHEN 'available' THEN get_bit(bitmask, 7) WHEN 'cancelled' THEN get_bit(bitmask, 6)
    WHEN 'completed' THEN get_bit(bitmask, 5) WHEN 'discarded' THEN get_bit(bitmask, 4)
    WHEN 'pending' THEN get_bit(bitmask, 3) WHEN 'retryable' THEN get_bit(bitmask, 2)
    WHEN 'running' THEN get_bit(bitmask, 1) WHEN 'scheduled' THEN get_bit(bitmask, 0) ELSE 0 END = 1
$bitmask$;
CREATE UNIQUE INDEX river_job_unique_idx ON public.river_job (unique_key)
  WHERE unique_key IS NOT NULL AND unique_states IS NOT NULL
    AND public.river_job_state_in_bitmask(unique_states, state);
CREATE UNLOGGED TABLE public.river_leader (
  elected_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  leader_id  text        NOT NULL
    CONSTRAINT leader_id_length CHECK (char_length(leader_id) > 0 AND char_length(leader_id) < 128),
  name       text        PRIMARY KEY DEFAULT 'default' CONSTRAINT name_length CHECK (name = 'default')
);
CREATE TABLE public.river_queue (
  name       text        PRIMARY KEY,
  created_at timestamptz NOT NULL DEFAULT now(),
  metadata   jsonb       NOT NULL DEFAULT '{}',
  paused_at  timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE public.river_notification (
  id         bigserial   PRIMARY KEY,
  created_at timestamptz NOT NULL DEFAULT now(),
  payload    text        NOT NULL,
  topic      text        NOT NULL CONSTRAINT topic_length CHECK (length(topic) > 0 AND length(topic) < 128)
);
CREATE INDEX river_notification_created_at_idx ON public.river_notification (created_at);
CREATE INDEX river_notification_topic_id_idx ON public.river_notification (topic, id);

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'kb_jobs', 'kb_uploads', 'kb_tombstones', 'river_job');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.kb_jobs, public.kb_uploads, public.kb_tombstones TO konstruct_app;
REVOKE ALL ON public.river_leader, public.river_queue, public.river_notification FROM PUBLIC;
CREATE POLICY worker_deals ON public.river_job TO konstruct_worker USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE
  ON public.river_job, public.river_leader, public.river_queue, public.river_notification TO konstruct_worker;
GRANT USAGE ON SEQUENCE public.river_job_id_seq, public.river_notification_id_seq TO konstruct_worker;

-- Makes sure that a tenant with queued jobs has a ticket. The lock, shared with enqueueing transactions, keeps the
-- worker from deleting a ticket before jobs that it can't see yet are committed. The function does not wait for a
-- ticket that another transaction is about to commit: there may be two for a moment, and the worker deletes the later
-- one. Only a READ COMMITTED transaction can see reliably that there is a ticket.
CREATE FUNCTION public.kb_wake() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
DECLARE tenant uuid;
BEGIN
  FOR tenant IN SELECT DISTINCT j.tenant_id FROM changed_jobs j WHERE j.state = 'queued' LOOP
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct jobs ' || tenant, 0));
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT EXISTS (
      SELECT FROM public.river_job r WHERE r.tenant_id = tenant AND r.queue = 'tenants' AND r.finalized_at IS NULL) THEN
      INSERT INTO public.river_job (kind, queue, args)
      VALUES ('tenant', 'tenants', jsonb_build_object('tenant', tenant));
      PERFORM pg_notify('public.river_insert', '{"queue": "tenants"}');
    END IF;
  END LOOP;
  RETURN NULL;
END $wake$;
CREATE TRIGGER kb_wake_enqueued AFTER INSERT ON public.kb_jobs
  REFERENCING NEW TABLE AS changed_jobs FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake();
CREATE TRIGGER kb_wake_again AFTER UPDATE ON public.kb_jobs
  REFERENCING NEW TABLE AS changed_jobs FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake();

-- Prevents everything uploaded so far for a source from being stored: queued and running jobs end here, and other
-- ingests in progress find the tombstone.
CREATE FUNCTION public.kb_bury(tenant uuid, source text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $bury$
DECLARE now_seq bigint := nextval('public.kb_seq');
BEGIN
  INSERT INTO public.kb_tombstones AS t (tenant_id, source_sha256, seq)
  VALUES (tenant, sha256(convert_to(source, 'UTF8')), now_seq)
  ON CONFLICT (tenant_id, source_sha256) DO UPDATE SET seq = greatest(t.seq, EXCLUDED.seq);
  WITH ended AS (
    UPDATE public.kb_jobs j
       SET state = 'cancelled', finished_at = now(), reason = 'its document was deleted after it was uploaded'
     WHERE j.tenant_id = tenant AND j.source = kb_bury.source AND j.state IN ('queued', 'running') AND j.seq < now_seq
    RETURNING j.id)
  DELETE FROM public.kb_uploads u USING ended e WHERE u.tenant_id = tenant AND u.job_id = e.id;
END $bury$;

-- A deletion of a document buries its source. As in kb_read_passages, the tenant is set if a superuser deletes without
-- a tenant.
CREATE FUNCTION public.kb_source_deleted() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $gone$
DECLARE gone record; before text := coalesce(current_setting('app.current_tenant', TRUE), '');
BEGIN
  FOR gone IN SELECT o.tenant_id, o.source FROM old_sources o ORDER BY 1, 2 LOOP
    IF gone.tenant_id::text <> before THEN
      PERFORM set_config('app.current_tenant', gone.tenant_id::text, TRUE);
    END IF;
    PERFORM public.kb_bury(gone.tenant_id, gone.source);
    IF gone.tenant_id::text <> before THEN PERFORM set_config('app.current_tenant', before, TRUE); END IF;
  END LOOP;
  RETURN NULL;
END $gone$;
CREATE TRIGGER kb_source_deleted AFTER DELETE ON public.kb_sources
  REFERENCING OLD TABLE AS old_sources FOR EACH STATEMENT EXECUTE FUNCTION public.kb_source_deleted();

REVOKE ALL ON FUNCTION public.river_job_state_in_bitmask, public.kb_wake, public.kb_bury, public.kb_source_deleted
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.river_job_state_in_bitmask TO konstruct_worker;
GRANT EXECUTE ON FUNCTION public.kb_bury TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER kb_source_deleted ON public.kb_sources;
DROP TABLE public.kb_tombstones, public.kb_uploads, public.kb_jobs, public.river_notification, public.river_queue,
  public.river_leader, public.river_job;
DROP FUNCTION public.kb_source_deleted, public.kb_bury, public.kb_wake, public.river_job_state_in_bitmask;
DROP TYPE public.river_job_state;
DROP SEQUENCE public.kb_seq;
REVOKE EXECUTE ON FUNCTION public.konstruct_schema FROM konstruct_worker;
REVOKE USAGE ON SCHEMA public FROM konstruct_worker;
