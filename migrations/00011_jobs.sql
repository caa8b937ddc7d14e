-- Documents that are taken in later, and what is kept of a document beside its passages: its text, its versions, who may see it.
--
-- What waits is a row of kb_jobs, written in whatever transaction hands the document over. Whose turn it is, is River's business
-- (https://riverqueue.com): it holds one ticket for each tenant that has something waiting, however much that is, and a ticket goes to the end
-- of the line after each turn, so that tenants take turns. Tickets name a tenant and nothing else; the role that deals them out, konstruct_worker,
-- sees no tenant's rows.
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
-- +goose StatementEnd
GRANT USAGE ON SCHEMA public TO konstruct_worker;
GRANT EXECUTE ON FUNCTION public.konstruct_schema() TO konstruct_worker;

ALTER TABLE public.kb_sources
  ADD COLUMN version integer NOT NULL DEFAULT 1,
  ADD COLUMN labels  text[]  NOT NULL DEFAULT '{}',
  ADD COLUMN given   jsonb   NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(given) = 'object'),
  ADD COLUMN etag    text    NOT NULL DEFAULT '';
COMMENT ON COLUMN public.kb_sources.labels IS 'who may find it: whoever asks with one of them; everybody where there are none';
COMMENT ON COLUMN public.kb_sources.given IS 'what whoever took it in says of it; metadata is what it says of itself';
COMMENT ON COLUMN public.kb_sources.etag IS 'what its site or bucket calls this content';

CREATE TABLE public.kb_versions (
  tenant_id      uuid        NOT NULL,
  document_id    uuid        NOT NULL,
  version        integer     NOT NULL,
  agent_id       uuid        NOT NULL,
  bytes          bigint      NOT NULL,
  content_sha256 bytea       NOT NULL,
  recipe         text        NOT NULL,
  ingested_at    timestamptz NOT NULL,
  replaced_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, document_id, version),
  FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE
);
COMMENT ON TABLE public.kb_versions IS 'what a document was before it was replaced; its content is gone';

CREATE TABLE public.kb_texts (
  tenant_id   uuid NOT NULL,
  document_id uuid NOT NULL,
  content     text NOT NULL,
  PRIMARY KEY (tenant_id, document_id),
  FOREIGN KEY (tenant_id, document_id) REFERENCES public.kb_documents (tenant_id, id) ON DELETE CASCADE
);
COMMENT ON TABLE public.kb_texts IS 'what the bytes of kb_passages point into';

CREATE TABLE public.kb_jobs (
  tenant_id   uuid        NOT NULL,
  id          uuid        NOT NULL,
  agent_id    uuid        NOT NULL,
  source      text        NOT NULL,
  filename    text        NOT NULL,
  labels      text[],
  given       jsonb,
  etag        text        NOT NULL DEFAULT '',
  leaf        boolean     NOT NULL DEFAULT false,
  state       text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
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
COMMENT ON COLUMN public.kb_jobs.labels IS 'as those of kb_sources; where it is NULL those stay as they are, and so of given';
COMMENT ON COLUMN public.kb_jobs.due IS 'of one that waits: not before; of one that runs: when somebody else may take it over';
COMMENT ON COLUMN public.kb_jobs.leaf IS 'a page that a list named, and no list itself';
CREATE INDEX ix_kb_jobs_state ON public.kb_jobs (tenant_id, state, due, id);
CREATE INDEX ix_kb_jobs_source ON public.kb_jobs (tenant_id, source);
ALTER TABLE public.kb_jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, fillfactor = 80);

CREATE TABLE public.kb_uploads (
  tenant_id uuid  NOT NULL,
  job_id    uuid  NOT NULL,
  content   bytea NOT NULL,
  PRIMARY KEY (tenant_id, job_id),
  FOREIGN KEY (tenant_id, job_id) REFERENCES public.kb_jobs (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE public.kb_uploads ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE public.kb_uploads IS 'the file of a job that is not done; a job without one names a page by its URL';

-- River's tables as its version 0.51 has them (its migration 8), and a tenant for each ticket.
CREATE TYPE public.river_job_state AS ENUM ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled');
CREATE TABLE public.river_job (
  id            bigserial              PRIMARY KEY,
  state         public.river_job_state NOT NULL DEFAULT 'available',
  attempt       smallint               NOT NULL DEFAULT 0,
  max_attempts  smallint               NOT NULL DEFAULT 25 CONSTRAINT max_attempts_is_positive CHECK (max_attempts > 0),
  attempted_at  timestamptz,
  created_at    timestamptz            NOT NULL DEFAULT now(),
  finalized_at  timestamptz,
  scheduled_at  timestamptz            NOT NULL DEFAULT now(),
  priority      smallint               NOT NULL DEFAULT 1 CONSTRAINT priority_in_range CHECK (priority >= 1 AND priority <= 4),
  args          jsonb                  NOT NULL,
  attempted_by  text[],
  errors        jsonb[],
  kind          text                   NOT NULL CONSTRAINT kind_length CHECK (char_length(kind) > 0 AND char_length(kind) < 128),
  metadata      jsonb                  NOT NULL DEFAULT '{}',
  queue         text                   NOT NULL DEFAULT 'default' CONSTRAINT queue_length CHECK (char_length(queue) > 0 AND char_length(queue) < 128),
  tags          varchar(255)[]         NOT NULL DEFAULT '{}',
  unique_key    bytea,
  unique_states bit(8),
  tenant_id     uuid                   NOT NULL GENERATED ALWAYS AS ((args->>'tenant')::uuid) STORED,
  CONSTRAINT finalized_or_finalized_at_null CHECK ((finalized_at IS NULL) = (state NOT IN ('cancelled', 'completed', 'discarded')))
);
CREATE INDEX river_job_kind ON public.river_job (kind);
CREATE INDEX river_job_state_and_finalized_at_index ON public.river_job (state, finalized_at) WHERE finalized_at IS NOT NULL;
CREATE INDEX river_job_prioritized_fetching_index ON public.river_job (state, queue, priority, scheduled_at, id);
CREATE INDEX river_job_open ON public.river_job (tenant_id) WHERE finalized_at IS NULL;
ALTER TABLE public.river_job SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200, fillfactor = 50);
-- +goose StatementBegin
CREATE FUNCTION public.river_job_state_in_bitmask(bitmask bit(8), state public.river_job_state) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $bitmask$
  SELECT CASE state WHEN 'available' THEN get_bit(bitmask, 7) WHEN 'cancelled' THEN get_bit(bitmask, 6) WHEN 'completed' THEN get_bit(bitmask, 5) WHEN 'discarded' THEN get_bit(bitmask, 4)
    WHEN 'pending' THEN get_bit(bitmask, 3) WHEN 'retryable' THEN get_bit(bitmask, 2) WHEN 'running' THEN get_bit(bitmask, 1) WHEN 'scheduled' THEN get_bit(bitmask, 0) ELSE 0 END = 1
$bitmask$;
-- +goose StatementEnd
CREATE UNIQUE INDEX river_job_unique_idx ON public.river_job (unique_key)
  WHERE unique_key IS NOT NULL AND unique_states IS NOT NULL AND public.river_job_state_in_bitmask(unique_states, state);
CREATE UNLOGGED TABLE public.river_leader (
  elected_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  leader_id  text        NOT NULL CONSTRAINT leader_id_length CHECK (char_length(leader_id) > 0 AND char_length(leader_id) < 128),
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

-- +goose StatementBegin
DO $isolate$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['kb_versions', 'kb_texts', 'kb_jobs', 'kb_uploads', 'river_job'] LOOP
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_isolation ON public.%I
      USING (tenant_id = NULLIF(current_setting(''app.current_tenant'', TRUE), '''')::uuid)', t);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', t);
    IF t <> 'river_job' THEN
      EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON public.%I TO konstruct_app', t);
    END IF;
  END LOOP;
  REVOKE ALL ON public.river_leader, public.river_queue, public.river_notification FROM PUBLIC;
END $isolate$;

CREATE POLICY worker_deals ON public.river_job TO konstruct_worker USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON public.river_job, public.river_leader, public.river_queue, public.river_notification TO konstruct_worker;
REVOKE ALL ON FUNCTION public.river_job_state_in_bitmask(bit, public.river_job_state) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.river_job_state_in_bitmask(bit, public.river_job_state) TO konstruct_worker;
GRANT USAGE ON SEQUENCE public.river_job_id_seq, public.river_notification_id_seq TO konstruct_worker;

-- Gives each tenant that has something waiting a ticket, unless it has one. The lock, shared with whoever hands over, keeps the worker from putting a
-- ticket away before what it can't see yet is committed. Nobody waits for a ticket that another is about to commit: there are two then for a moment, of which
-- the worker puts the later away. Only a transaction whose every statement sees the present can tell that a ticket is there.
CREATE FUNCTION public.kb_wake() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
DECLARE tenant uuid;
BEGIN
  FOR tenant IN SELECT DISTINCT j.tenant_id FROM changed_jobs j WHERE j.state = 'waiting' LOOP
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct jobs ' || tenant, 0));
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT EXISTS (SELECT FROM public.river_job r WHERE r.tenant_id = tenant AND r.finalized_at IS NULL) THEN
      INSERT INTO public.river_job (kind, queue, args) VALUES ('tenant', 'tenants', jsonb_build_object('tenant', tenant));
      PERFORM pg_notify('public.river_insert', '{"queue": "tenants"}');
    END IF;
  END LOOP;
  RETURN NULL;
END $wake$;
REVOKE ALL ON FUNCTION public.kb_wake() FROM PUBLIC;
CREATE TRIGGER kb_wake_enqueued AFTER INSERT ON public.kb_jobs REFERENCING NEW TABLE AS changed_jobs FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake();
CREATE TRIGGER kb_wake_again AFTER UPDATE ON public.kb_jobs REFERENCING NEW TABLE AS changed_jobs FOR EACH STATEMENT EXECUTE FUNCTION public.kb_wake();
-- +goose StatementEnd

-- +goose Down
DROP TABLE public.river_notification, public.river_queue, public.river_leader, public.river_job;
DROP TABLE public.kb_uploads, public.kb_jobs, public.kb_texts, public.kb_versions;
DROP FUNCTION public.kb_wake(), public.river_job_state_in_bitmask(bit, public.river_job_state);
DROP TYPE public.river_job_state;
ALTER TABLE public.kb_sources DROP COLUMN version, DROP COLUMN labels, DROP COLUMN given, DROP COLUMN etag;
REVOKE EXECUTE ON FUNCTION public.konstruct_schema() FROM konstruct_worker;
REVOKE USAGE ON SCHEMA public FROM konstruct_worker;
