-- What filters of searches compare as times: texts in metadata.
-- +goose Up
-- +goose StatementBegin
-- The instant of a time (RFC 3339) or of a date, which is its midnight in UTC; NULL for any other text, whatever it is.
-- Years are 1 to 9999, there are no leap seconds, and what is below a microsecond is cut off. The program reads times
-- alike (parseTime in search).
CREATE FUNCTION public.kb_time(written text) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN octet_length(written) > 64 OR written !~ '^[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|'
      '[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))(?:[Tt](?:[01][0-9]|2[0-3])'
      ':[0-5][0-9]:[0-5][0-9](?:[.][0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))?$' THEN NULL
    WHEN substr(written, 1, 4) = '0000' THEN NULL
    WHEN substr(written, 6, 5) = '02-29' AND (substr(written, 1, 4)::integer % 4 <> 0
      OR substr(written, 1, 4)::integer % 100 = 0 AND substr(written, 1, 4)::integer % 400 <> 0) THEN NULL
    WHEN octet_length(written) = 10 THEN
      make_timestamp(substr(written, 1, 4)::integer, substr(written, 6, 2)::integer, substr(written, 9, 2)::integer,
                     0, 0, 0) AT TIME ZONE 'UTC'
    ELSE
      (make_timestamp(substr(written, 1, 4)::integer, substr(written, 6, 2)::integer, substr(written, 9, 2)::integer,
                      substr(written, 12, 2)::integer, substr(written, 15, 2)::integer,
                      substring(written, '^.{17}([0-9]{2}(?:[.][0-9]{1,6})?)')::float8)
       - CASE WHEN right(written, 1) IN ('Z', 'z') THEN interval '0' ELSE
           make_interval(hours => left(right(written, 6), 3)::integer,
                         mins => (left(right(written, 6), 1) || right(written, 2))::integer) END) AT TIME ZONE 'UTC'
  END
$$;
REVOKE ALL ON FUNCTION public.kb_time FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.kb_time TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DROP FUNCTION public.kb_time;
-- +goose StatementEnd
