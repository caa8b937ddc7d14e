-- The login roles of our programs, one statement a line, each below its purpose. None is a superuser or bypasses
-- row-level security. `konstruct init` and the private cluster add a password to each statement. There is no other list
-- of the roles.

-- for: owns the schema: migrations, large tenants' indexes
CREATE ROLE konstruct_owner LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;

-- for: everything that serves, one tenant at a time
CREATE ROLE konstruct_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;

-- for: signs the log: the notary, verification, evidence
CREATE ROLE konstruct_notary LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;

-- for: erasure, legal holds, retention
CREATE ROLE konstruct_compliance LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;

-- for: schedules queued documents, sees no tenant's rows
CREATE ROLE konstruct_worker LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
