-- The roles that programs log in as, one statement a line, with what each is for behind it. None of them is a superuser or passes row
-- security by. `konstruct init` and the private cluster add a password to each line; nobody else lists them.
CREATE ROLE konstruct_owner LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE; -- owns the schema: migrations, large tenants' indexes
CREATE ROLE konstruct_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE; -- everything that serves, one tenant at a time
CREATE ROLE konstruct_notary LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE; -- signs the log: the notary, verification, evidence
CREATE ROLE konstruct_compliance LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE; -- erasure, legal holds, retention
CREATE ROLE konstruct_worker LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE; -- schedules queued documents, sees no tenant's rows
