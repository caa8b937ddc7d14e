-- What the catalog says of everything that is ours, a row each: kind, name, definition. tenantdb/catalog.txt has what
-- the migrations make. Run with search_path = pg_catalog, pg_temp, so that every name is written in full. "owner" is
-- the schema's owner. Left out is what operators may choose: storage settings, tablespaces, comments, indexes of their
-- own, the seed's index over all tenants, tenants' own indexes, the epoch in force, and the retention floor.
WITH spaces AS (SELECT oid FROM pg_namespace WHERE nspname = 'public'),
ours AS (
  SELECT c.* FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM spaces) AND c.relkind IN ('r', 'p', 'v', 'm',
         'f', 'S')
     AND c.relname ~ '^(audit|access|kb|artifact|river)_'),
owner AS (SELECT coalesce((SELECT relowner FROM ours WHERE relname = 'audit_seals'), 0) AS oid),
who (oid, name) AS (
  SELECT r.oid, CASE WHEN r.oid = o.oid THEN 'owner' ELSE r.rolname::text END FROM pg_roles r, owner o
         UNION ALL SELECT 0, 'PUBLIC'),
functions AS (
  SELECT p.*, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name FROM pg_proc p
   WHERE p.pronamespace IN (SELECT oid FROM spaces) AND p.proname ~ '^(audit|access|kb|artifact|river|konstruct)_'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
            AND d.deptype = 'e')),
finds (name) AS (SELECT unnest('{audit_find_run,audit_find_words}'::text[])),
grants AS (
  SELECT 'table ' || c.relname AS name, g.* FROM ours c, LATERAL aclexplode(c.relacl) g WHERE g.grantee <> c.relowner
  UNION ALL SELECT 'column ' || c.relname || '.' || a.attname, g.* FROM ours c
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
         LATERAL aclexplode(a.attacl) g
  UNION ALL SELECT 'function ' || f.name, g.* FROM functions f, LATERAL aclexplode(coalesce(f.proacl, acldefault('f',
         f.proowner))) g WHERE g.grantee <> f.proowner),
lines (kind, name, definition) AS (
  SELECT 'relation', c.relname::text, concat_ws(', ', 'kind ' || c.relkind::text, CASE WHEN c.relpersistence <> 'p'
         THEN 'persistence ' || c.relpersistence::text END,
         CASE WHEN c.relrowsecurity THEN 'row security' END, CASE WHEN c.relforcerowsecurity THEN 'forced' END,
         'of ' || (SELECT w.name FROM who w WHERE w.oid = c.relowner), CASE WHEN c.relkind IN ('v', 'm')
                THEN pg_get_viewdef(c.oid) END) FROM ours c
  UNION ALL SELECT 'column', c.relname || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE
         WHEN a.attnotnull THEN 'not null' END,
         CASE WHEN c.relname = 'audit_seals' AND a.attname = 'epoch' THEN 'default: the epoch in force'
                ELSE 'default ' || pg_get_expr(d.adbin, d.adrelid) END,
         CASE WHEN a.attidentity <> '' THEN 'identity ' || a.attidentity::text END, CASE WHEN a.attgenerated <> ''
                THEN 'generated ' || a.attgenerated::text END)
    FROM ours c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT
           JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
   WHERE c.relkind <> 'S'
  UNION ALL SELECT 'constraint', c.relname || '.' || k.conname, pg_get_constraintdef(k.oid) || CASE
         WHEN k.convalidated THEN '' ELSE ', not validated' END
    FROM ours c JOIN pg_constraint k ON k.conrelid = c.oid WHERE k.contype NOT IN ('n', 't')
  UNION ALL SELECT 'index', c.relname || '.' || i.relname, pg_get_indexdef(i.oid) || CASE WHEN x.indexprs IS NULL
         THEN '' ELSE ', computed' END || CASE WHEN x.indisvalid AND x.indisready AND x.indislive THEN ''
         ELSE ', not valid' END
    FROM ours c JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid
   WHERE i.relname NOT IN ('ix_kb_chunks_hnsw', 'audit_events_words')
          AND i.relname !~ '^ix_kb_(points|vectors)_[0-9a-f]{32}'
  UNION ALL SELECT 'trigger', c.relname || '.' || t.tgname, pg_get_triggerdef(t.oid) || ', fires ' || t.tgenabled::text
    FROM ours c JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
  UNION ALL SELECT 'rule', c.relname || '.' || r.rulename, pg_get_ruledef(r.oid) || ', fires ' || r.ev_enabled::text
    FROM ours c JOIN pg_rewrite r ON r.ev_class = c.oid WHERE c.relkind NOT IN ('v', 'm') OR r.rulename <> '_RETURN'
  UNION ALL SELECT CASE WHEN p.polname = 'finder_reads' THEN 'finder' ELSE 'policy' END,
         c.relname || '.' || p.polname, concat_ws(' ', CASE WHEN p.polpermissive THEN 'permissive'
         ELSE 'restrictive' END, 'for ' || p.polcmd::text,
         'to ' || (SELECT string_agg(w.name, ', ' ORDER BY w.name) FROM who w WHERE w.oid = ANY (p.polroles)),
         'using ' || pg_get_expr(p.polqual, p.polrelid), 'with check ' || pg_get_expr(p.polwithcheck, p.polrelid))
    FROM ours c JOIN pg_policy p ON p.polrelid = c.oid
  UNION ALL SELECT 'parent', c.relname::text, 'inherits with ' || (CASE WHEN h.inhparent = c.oid THEN h.inhrelid
         ELSE h.inhparent END)::regclass::text
    FROM ours c JOIN pg_inherits h ON c.oid IN (h.inhparent, h.inhrelid)
  UNION ALL SELECT CASE WHEN f.proname = 'audit_guard' THEN 'guard' ELSE 'function' END, f.name, concat_ws(', ',
         pg_get_function_result(f.oid), l.lanname, 'volatility ' || f.provolatile::text,
         'parallel ' || f.proparallel::text,
         CASE WHEN f.proisstrict THEN 'strict' END, CASE WHEN f.prosecdef THEN 'security definer' END, CASE
                WHEN f.proleakproof THEN 'leakproof' END,
         array_to_string(f.proconfig, ', '),
         'of ' || CASE WHEN f.proname IN (SELECT name FROM finds) AND w.name = 'konstruct_finder' THEN 'owner'
                WHEN f.proname = 'audit_guard' AND (SELECT rolsuper FROM pg_roles r WHERE r.oid = f.proowner)
                THEN 'a superuser' ELSE w.name END,
         CASE WHEN f.proname <> 'audit_retention_floor'
                THEN 'body ' || encode(sha256(convert_to(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                'UTF8')), 'hex') END)
    FROM functions f JOIN pg_language l ON l.oid = f.prolang LEFT JOIN who w ON w.oid = f.proowner
  UNION ALL SELECT CASE WHEN w.name = 'konstruct_finder' THEN 'finder' ELSE 'grant' END,
         g.name || ' to ' || coalesce(w.name, 'a role that is gone'),
         string_agg(g.privilege_type || CASE WHEN g.is_grantable THEN ' with grant option' ELSE '' END, ', '
                ORDER BY g.privilege_type)
    FROM grants g LEFT JOIN who w ON w.oid = g.grantee WHERE g.name !~ '^function audit_guard' GROUP BY w.name, g.name
  UNION ALL SELECT 'finder', 'owner of ' || f.name, 'konstruct_finder' FROM functions f
         JOIN pg_roles r ON r.oid = f.proowner WHERE f.proname IN (SELECT name FROM finds)
         AND r.rolname = 'konstruct_finder'
  UNION ALL SELECT 'guard', 'event trigger ' || e.evtname,
         e.evtevent || ', ' || e.evtfoid::regproc::text || ', fires ' || e.evtenabled::text || coalesce(', for ' ||
         array_to_string(e.evttags, ', '), '')
    FROM pg_event_trigger e WHERE e.evtname ~ '^audit_guard'
  UNION ALL SELECT 'role', r.rolname::text, concat_ws(', ', CASE WHEN r.rolsuper THEN 'superuser'
         ELSE 'no superuser' END, CASE WHEN r.rolbypassrls THEN 'passes row security by' END,
         CASE WHEN r.rolcreaterole THEN 'creates roles' END, CASE WHEN r.rolreplication THEN 'replicates' END)
    FROM pg_roles r WHERE r.rolname IN ('konstruct_app', 'konstruct_notary', 'konstruct_compliance',
           'konstruct_worker'))
SELECT kind, name, coalesce(definition, '') FROM lines ORDER BY kind COLLATE "C", name COLLATE "C",
       definition COLLATE "C"
