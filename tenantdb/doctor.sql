-- One row a check: name, found, wanted, what to run. A check holds when found equals wanted.
WITH tenant_tables AS (
  SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relowner
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
   WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace),
expected (relname, privileges) AS (VALUES
  ('audit_events', 'INSERT,SELECT'), ('audit_seals', ''), ('audit_logs', ''), ('audit_adoptions', ''),
  ('audit_epochs', ''), ('audit_tiles', ''), ('audit_heads', ''), ('audit_checkpoints', ''), ('audit_witnesses', ''),
         ('audit_keys', ''),
  ('audit_erasures', 'SELECT'), ('audit_holds', ''), ('audit_retention', ''), ('audit_gone', ''),
         ('audit_two_people', ''), ('audit_requests', ''), ('audit_days', 'SELECT'),
  ('kb_documents', 'DELETE,INSERT,SELECT,UPDATE'), ('kb_chunks', 'DELETE,INSERT,SELECT,UPDATE'),
  ('kb_sources', 'DELETE,INSERT,SELECT,UPDATE'), ('kb_passages', 'DELETE,INSERT,SELECT,UPDATE'),
  ('kb_versions', 'DELETE,INSERT,SELECT,UPDATE'), ('kb_texts', 'DELETE,INSERT,SELECT,UPDATE'), ('kb_jobs',
         'DELETE,INSERT,SELECT,UPDATE'),
  ('kb_uploads', 'DELETE,INSERT,SELECT,UPDATE'), ('river_job', ''), ('kb_tombstones', 'DELETE,INSERT,SELECT,UPDATE'),
  ('kb_settings', 'DELETE,INSERT,SELECT,UPDATE'),
  ('kb_models', 'DELETE,INSERT,SELECT,UPDATE'), ('kb_vectors', 'DELETE,INSERT,SELECT,UPDATE'),
  ('kb_points', 'DELETE,INSERT,SELECT,UPDATE'), ('kb_terms', 'DELETE,INSERT,SELECT,UPDATE'), ('kb_tiers',
         'DELETE,INSERT,SELECT,UPDATE'),
  ('access_keys', 'DELETE,INSERT,SELECT,UPDATE'), ('access_users', 'DELETE,INSERT,SELECT,UPDATE'), ('access_limits',
         'DELETE,INSERT,SELECT,UPDATE'),
  ('access_requests', 'DELETE,INSERT,SELECT,UPDATE'), ('artifact_files', 'DELETE,INSERT,SELECT,UPDATE'),
         ('artifact_pieces', 'DELETE,INSERT,SELECT,UPDATE'),
  ('webhook_endpoints', 'DELETE,INSERT,SELECT,UPDATE'), ('webhook_secrets', 'DELETE,INSERT,SELECT,UPDATE'),
  ('webhook_messages', 'DELETE,INSERT,SELECT,UPDATE'), ('webhook_deliveries', 'DELETE,INSERT,SELECT,UPDATE'),
  ('webhook_attempts', 'DELETE,INSERT,SELECT,UPDATE')),
me AS (SELECT * FROM pg_roles WHERE rolname = current_user)
SELECT check_name, coalesce(found, 'missing'), wanted, fix FROM (
  SELECT 1, 'role is not superuser', rolsuper::text, 'false', 'connect as konstruct_app' FROM me
  UNION ALL SELECT 2, 'role cannot bypass RLS', rolbypassrls::text, 'false',
         'ALTER ROLE ' || quote_ident(rolname) || ' NOBYPASSRLS' FROM me
  UNION ALL SELECT 2, 'owner of the schema is bound by row security', (NOT rolsuper AND NOT rolbypassrls)::text, 'true',
         'ALTER ROLE konstruct_owner NOSUPERUSER NOBYPASSRLS' FROM pg_roles WHERE rolname = 'konstruct_owner'
  UNION ALL SELECT 3, 'role owns no table', (SELECT count(*)::text FROM tenant_tables WHERE pg_has_role(relowner,
         'USAGE')), '0', 'connect as konstruct_app'
  UNION ALL SELECT 4, 'role cannot create in public', has_schema_privilege('public', 'CREATE')::text, 'false',
         'REVOKE CREATE ON SCHEMA public FROM PUBLIC, konstruct_app'
  UNION ALL SELECT 10, 'table ' || e.relname, CASE WHEN t.oid IS NULL THEN 'missing' ELSE 'there' END, 'there',
         'konstruct migrate up'
    FROM expected e LEFT JOIN tenant_tables t USING (relname)
  UNION ALL SELECT 11, 'RLS on ' || relname, CASE WHEN NOT relrowsecurity THEN 'off' WHEN relforcerowsecurity
         THEN 'forced' ELSE 'not forced' END, 'forced',
    format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', relname) FROM tenant_tables
  UNION ALL SELECT 12, 'policy on ' || t.relname, (SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
         WHERE p.polrelid = t.oid AND p.polname = 'tenant_isolation'),
    '(tenant_id = (NULLIF(current_setting(''app.current_tenant''::text, true), ''''::text))::uuid)',
           'konstruct migrate up' FROM tenant_tables t
  UNION ALL SELECT 13, 'no other policy reaches this role on ' || t.relname,
    (SELECT count(*)::text FROM pg_policy p WHERE p.polrelid = t.oid AND p.polname <> 'tenant_isolation'
           AND p.polpermissive
        AND EXISTS (SELECT FROM unnest(p.polroles) r WHERE r = 0 OR pg_has_role(r, 'USAGE'))), '0',
    'drop that policy' FROM tenant_tables t
  UNION ALL SELECT 13, 'labels are held on ' || w.relname,
    coalesce((SELECT (NOT p.polpermissive AND p.polcmd = '*' AND pg_has_role(p.polroles[1], 'USAGE'))::text
           FROM pg_policy p
      WHERE p.polrelid = to_regclass('public.' || w.relname) AND p.polname = 'labels_granted'), 'false'), 'true',
             'konstruct migrate up'
    FROM unnest(('{kb_sources,kb_documents,kb_chunks,kb_points,kb_texts,kb_versions,kb_terms,kb_vectors,'
      || 'kb_passages,kb_jobs,kb_uploads,artifact_files,artifact_pieces}')::text[]) w (relname)
  UNION ALL SELECT 14, 'grants on ' || t.relname,
    (SELECT coalesce(string_agg(p, ',' ORDER BY p), '')
           FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p
           WHERE has_table_privilege(t.oid, p)),
    e.privileges, 'konstruct migrate up' FROM tenant_tables t JOIN expected e USING (relname)
  UNION ALL SELECT 20, 'trigger ' || w.tgname || ' on ' || w.relname,
    (SELECT CASE g.tgenabled WHEN 'A' THEN 'always' WHEN 'D' THEN 'disabled' ELSE 'not always' END FROM pg_trigger g
      WHERE g.tgrelid = to_regclass('public.' || w.relname) AND g.tgname = w.tgname), 'always',
    format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', w.relname, w.tgname)
    FROM (VALUES ('audit_events', 'audit_seal'), ('audit_events', 'audit_refuse'), ('audit_events', 'audit_act'),
           ('audit_events', 'audit_forget_days_changed'), ('audit_events', 'audit_forget_days_deleted'),
           ('audit_seals', 'audit_refuse'), ('audit_logs', 'audit_refuse'),
      ('audit_epochs', 'audit_refuse'), ('audit_tiles', 'audit_refuse'), ('audit_heads', 'audit_refuse'),
             ('audit_checkpoints', 'audit_refuse'),
      ('audit_witnesses', 'audit_refuse'), ('audit_keys', 'audit_refuse')) w (relname, tgname)
  UNION ALL SELECT 20, 'trigger ' || w.tgname || ' on kb_chunks', (SELECT CASE g.tgenabled WHEN 'D' THEN 'disabled'
         ELSE 'enabled' END FROM pg_trigger g
      WHERE g.tgrelid = to_regclass('public.kb_chunks') AND g.tgname = w.tgname), 'enabled',
             format('ALTER TABLE kb_chunks ENABLE TRIGGER %I', w.tgname)
    FROM unnest('{kb_read_inserted,kb_read_updated,kb_read_deleted}'::text[]) w (tgname)
  UNION ALL SELECT 20, 'trigger kb_source_deleted on kb_sources', (SELECT CASE g.tgenabled WHEN 'D' THEN 'disabled'
         ELSE 'enabled' END FROM pg_trigger g
      WHERE g.tgrelid = to_regclass('public.kb_sources') AND g.tgname = 'kb_source_deleted'), 'enabled',
             'ALTER TABLE kb_sources ENABLE TRIGGER kb_source_deleted'
  UNION ALL SELECT 21, 'function ' || w.name, (SELECT CASE WHEN p.proowner = (SELECT relowner FROM pg_class
         WHERE oid = to_regclass('public.audit_seals'))
      THEN CASE WHEN p.prosecdef THEN 'security definer, ' ELSE '' END || coalesce((SELECT c
             FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%'), 'no search_path') ELSE 'not the owner''s' END
      FROM pg_proc p WHERE p.oid = to_regproc('public.' || w.name)), w.definer || 'search_path=pg_catalog, pg_temp',
             'konstruct migrate up'
    FROM (VALUES ('audit_seal', 'security definer, '), ('audit_refuse', ''), ('audit_refuse_act', ''),
           ('konstruct_schema', 'security definer, '), ('audit_begin_epoch', 'security definer, '),
      ('audit_erase', 'security definer, '), ('audit_decide', 'security definer, '), ('audit_hold',
             'security definer, '), ('audit_release', 'security definer, '),
      ('audit_retain', 'security definer, '), ('audit_retire', 'security definer, '), ('audit_count_days',
             'security definer, '), ('audit_figures', ''), ('audit_erase_now', ''), ('audit_record', ''), ('kb_wake',
             'security definer, '), ('kb_wake_index', 'security definer, '),
      ('kb_hidden_documents', 'security definer, '), ('kb_hidden_passages', 'security definer, '),
             ('kb_hidden_sources', 'security definer, ')) w (name, definer)
  UNION ALL SELECT 22, 'runs and words are looked up', f.how, f.how, 'konstruct migrate guard'
    FROM (SELECT CASE WHEN bool_and(pg_get_userbyid(proowner) = 'konstruct_finder') THEN 'by index'
           ELSE 'one by one (konstruct migrate guard)' END FROM pg_proc
           WHERE pronamespace = 'public'::regnamespace AND proname IN ('audit_find_run', 'audit_find_words')) f (how)
  UNION ALL SELECT 23, 'clock within 5 s of this machine''s', CASE WHEN abs(extract(epoch
         FROM clock_timestamp() - $1::timestamptz)) <= 5 THEN 'true' ELSE 'off by ' || round(extract(epoch
         FROM clock_timestamp() - $1::timestamptz)) || ' s' END,
    'true', 'set both clocks by NTP'
  UNION ALL SELECT 30, 'pgvector 0.8 or newer', (SELECT (string_to_array(extversion, '.')::int[] >= '{0,8}')::text
         FROM pg_extension WHERE extname = 'vector'), 'true',
         'CREATE EXTENSION vector, or ALTER EXTENSION vector UPDATE (as a superuser)'
  UNION ALL SELECT 30, 'the locale knows letters beyond ASCII: searches ignore their case',
         (lower('ÉÖЖΩ') = 'éöжω')::text, 'true',
         'dump, CREATE DATABASE ... LOCALE ''C.UTF-8'' TEMPLATE template0, restore'
  UNION ALL SELECT 31, name, setting, 'on', 'ALTER SYSTEM SET ' || name || ' = on; then reload' FROM pg_settings
         WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')
) c (place, check_name, found, wanted, fix) ORDER BY place, check_name
