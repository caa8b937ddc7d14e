-- Which migration a database stands at, for roles that may not read the migrations' own table: a program
-- older or newer than the schema says so instead of guessing.
-- +goose Up
CREATE FUNCTION public.konstruct_schema() RETURNS bigint
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT max(version_id) FROM public.goose_db_version WHERE is_applied';
REVOKE ALL ON FUNCTION public.konstruct_schema() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.konstruct_schema() TO konstruct_app, konstruct_notary, konstruct_compliance;

-- +goose Down
DROP FUNCTION public.konstruct_schema();
