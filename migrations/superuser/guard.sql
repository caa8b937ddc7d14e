-- Refuses DDL that would quietly change the audit trail's tables, functions, triggers or policies,
-- whoever runs it. PostgreSQL lets only a superuser install this, once a database; `konstruct migrate
-- guard` does. Its off switch, for migrations, is written to the server's log each time it is used:
--   SET konstruct.allow_ddl = on;
CREATE OR REPLACE FUNCTION public.audit_guard() RETURNS event_trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $guard$
DECLARE touched text; present integer;
BEGIN
  SELECT count(*) INTO present FROM unnest('{public.audit_events,public.audit_seals,public.audit_logs,public.audit_adoptions,public.audit_epochs,public.audit_tiles,public.audit_heads,public.audit_checkpoints,public.audit_witnesses,public.audit_keys,public.audit_erasures,public.audit_holds,public.audit_retention,public.audit_gone,public.audit_two_people,public.audit_requests,public.audit_days}'::text[]) t WHERE to_regclass(t) IS NOT NULL;
  IF TG_EVENT = 'sql_drop' THEN
    SELECT min(object_identity) INTO touched FROM pg_event_trigger_dropped_objects()
     WHERE NOT is_temporary AND object_type IN ('table', 'trigger', 'policy', 'function', 'table column', 'event trigger')
       AND object_identity ~ '(^| on )public\.audit_|^audit_guard';
  ELSE
    SELECT min(object_identity) INTO touched FROM pg_event_trigger_ddl_commands()
     WHERE object_type IN ('table', 'trigger', 'policy', 'function', 'table column') AND command_tag NOT LIKE 'GRANT%'
       AND object_identity ~ '(^| on )public\.audit_';
    -- A renamed table has no guarded name any more; that one is missing says so.
    IF touched IS NULL AND present BETWEEN 1 AND 16 THEN touched := 'a renamed table'; END IF;
  END IF;
  IF touched IS NULL OR present = 0 AND TG_EVENT <> 'sql_drop' THEN RETURN; END IF;
  IF current_setting('konstruct.allow_ddl', true) = 'on' THEN
    RAISE LOG 'konstruct: % on % by % let through by konstruct.allow_ddl', TG_TAG, touched, session_user;
    RETURN;
  END IF;
  RAISE EXCEPTION '% on % is refused: it belongs to the audit trail', TG_TAG, touched
    USING ERRCODE = 'insufficient_privilege', HINT = 'A migration sets konstruct.allow_ddl = on first, which the server logs.';
END $guard$;
DROP EVENT TRIGGER IF EXISTS audit_guard_ddl;
DROP EVENT TRIGGER IF EXISTS audit_guard_drop;
CREATE EVENT TRIGGER audit_guard_ddl ON ddl_command_end EXECUTE FUNCTION public.audit_guard();
CREATE EVENT TRIGGER audit_guard_drop ON sql_drop EXECUTE FUNCTION public.audit_guard();
ALTER EVENT TRIGGER audit_guard_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER audit_guard_drop ENABLE ALWAYS;
REVOKE ALL ON FUNCTION public.audit_guard() FROM PUBLIC;
