-- API access: a tenant's keys, users and limits, idempotency records of requests, and files being uploaded or
-- downloaded.
--
-- A key names its tenant, so it is looked up like everything else with the tenant set. Only a keyed hash of a key is
-- stored.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.access_keys (
  tenant_id  uuid        NOT NULL,
  id         uuid        NOT NULL,
  name       text        NOT NULL,
  hash       bytea       NOT NULL CHECK (octet_length(hash) = 32),
  agent_id   uuid,
  permissions text[]      NOT NULL,
  labels     text[]      NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text        NOT NULL,
  expires_at timestamptz,
  used_at    timestamptz,
  revoked_at timestamptz,
  successor  uuid,
  PRIMARY KEY (tenant_id, id)
);
COMMENT ON COLUMN public.access_keys.hash IS
  'HMAC-SHA256 of the whole key, with a secret that is not in the database';
COMMENT ON COLUMN public.access_keys.agent_id IS
  'the one agent as which it acts and whose events it sees; NULL is any';
COMMENT ON COLUMN public.access_keys.labels IS
  'documents with one of these it may see, beside those that have none; {*} is every label';
COMMENT ON COLUMN public.access_keys.used_at IS 'to a minute';
COMMENT ON COLUMN public.access_keys.successor IS 'the key that took its place; it holds until it expires';

CREATE TABLE public.access_users (
  tenant_id   uuid        NOT NULL,
  id          uuid        NOT NULL,
  issuer      text        NOT NULL,
  subject     text        NOT NULL,
  name        text        NOT NULL DEFAULT '',
  role        text        NOT NULL CHECK (role IN ('viewer', 'auditor', 'operator', 'compliance', 'admin')),
  labels      text[]      NOT NULL DEFAULT '{}',
  created_at  timestamptz NOT NULL DEFAULT now(),
  created_by  text        NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, issuer, subject)
);
COMMENT ON TABLE public.access_users IS
  'people whom an identity provider knows, and what they may do in this tenant';
COMMENT ON COLUMN public.access_users.labels IS 'as those of access_keys';

CREATE TABLE public.access_limits (
  tenant_id uuid        NOT NULL PRIMARY KEY,
  limits    jsonb       NOT NULL CHECK (jsonb_typeof(limits) = 'object'),
  set_at    timestamptz NOT NULL DEFAULT now(),
  set_by    text        NOT NULL
);

CREATE TABLE public.access_requests (
  tenant_id  uuid        NOT NULL,
  credential uuid        NOT NULL,
  key        text        NOT NULL,
  print      bytea       NOT NULL,
  status     smallint,
  headers    jsonb       NOT NULL DEFAULT '{}',
  body       bytea,
  at         timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, credential, key)
);
COMMENT ON TABLE public.access_requests IS
  'what was answered to a request with an Idempotency-Key; kept for a day';
COMMENT ON COLUMN public.access_requests.print IS 'SHA-256 of the request';
COMMENT ON COLUMN public.access_requests.status IS
  'NULL while it is worked on, or where whoever did so was killed';
CREATE INDEX ix_access_requests_at ON public.access_requests (tenant_id, at);

CREATE TABLE public.artifact_files (
  tenant_id  uuid        NOT NULL,
  id         uuid        NOT NULL,
  kind       text        NOT NULL,
  given      jsonb       NOT NULL CHECK (jsonb_typeof(given) = 'object'),
  labels     text[]      NOT NULL DEFAULT '{}',
  size       bigint,
  stored     bigint      NOT NULL DEFAULT 0,
  state      text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'failed')),
  reason     text        NOT NULL DEFAULT '',
  made       jsonb       NOT NULL DEFAULT '{}',
  worker     uuid,
  until      timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE public.artifact_files IS
  'files on their way in or out: uploads that come in pieces, '
  'and evidence that is made for somebody who comes back for it';
COMMENT ON COLUMN public.artifact_files.labels IS 'of the document that an upload becomes';
COMMENT ON COLUMN public.artifact_files.size IS 'of the whole; NULL while it is not known';
COMMENT ON COLUMN public.artifact_files.until IS 'when somebody else may take its making over';
CREATE INDEX ix_artifact_files_expires ON public.artifact_files (tenant_id, expires_at);

CREATE TABLE public.artifact_pieces (
  tenant_id uuid   NOT NULL,
  file_id   uuid   NOT NULL,
  start     bigint NOT NULL,
  content   bytea  NOT NULL,
  PRIMARY KEY (tenant_id, file_id, start),
  FOREIGN KEY (tenant_id, file_id) REFERENCES public.artifact_files (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE public.artifact_pieces ALTER COLUMN content SET STORAGE EXTERNAL;

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'access_keys', 'access_users', 'access_limits', 'access_requests',
                                   'artifact_files', 'artifact_pieces');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.access_keys, public.access_users, public.access_limits,
  public.access_requests, public.artifact_files, public.artifact_pieces TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
DROP TABLE public.artifact_pieces, public.artifact_files, public.access_requests, public.access_limits,
  public.access_users, public.access_keys;
