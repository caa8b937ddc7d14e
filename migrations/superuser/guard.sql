-- Refuses DDL that would silently change the audit trail, by any role: on its tables, views, columns, constraints,
-- indexes, functions, triggers, rules, policies and sequences, and on their schema. PostgreSQL lets only a superuser
-- install this, once for each database; `konstruct migrate guard` does. Migrations switch it off, which is written to
-- the server's log each time:
--	  SET konstruct.allow_ddl = on;
-- Event triggers do not fire for DDL on event triggers themselves, nor for GRANT on objects shared by databases:
-- `konstruct doctor` finds those.
CREATE OR REPLACE FUNCTION public.audit_guard() RETURNS event_trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $guard$
DECLARE touched text;
BEGIN
  IF TG_EVENT = 'sql_drop' THEN
    SELECT min(object_identity) INTO touched FROM pg_event_trigger_dropped_objects()
     WHERE NOT is_temporary AND (object_identity ~ '(^| on | for )public\.audit_'
        OR object_identity = 'public' AND object_type = 'schema');
  ELSE
    SELECT min(coalesce(object_identity, object_type)) INTO touched FROM pg_event_trigger_ddl_commands() d
     WHERE command_tag NOT IN ('GRANT', 'REVOKE', 'COMMENT') AND (
           object_identity ~ '(^| on | for )public\.audit_'
        -- An index is named by itself, and not by its table.
        OR classid = 'pg_class'::regclass AND EXISTS (
             SELECT FROM pg_index i WHERE i.indexrelid = d.objid AND i.indrelid::regclass::text ~ '^public\.audit_')
        -- Rows of a table that inherits are the trail's too.
        OR classid = 'pg_class'::regclass AND EXISTS (
             SELECT FROM pg_inherits h WHERE h.inhrelid = d.objid AND h.inhparent::regclass::text ~ '^public\.audit_')
        -- A table that was renamed or moved has no guarded name any more, but still its triggers; a function still the
        -- triggers that call it.
        OR classid = 'pg_class'::regclass AND EXISTS (
             SELECT FROM pg_trigger t WHERE t.tgrelid = d.objid AND t.tgfoid::regproc::text ~ '^public\.audit_')
        OR classid = 'pg_proc'::regclass AND EXISTS (
             SELECT FROM pg_trigger t WHERE t.tgfoid = d.objid AND t.tgrelid::regclass::text ~ '^public\.audit_')
        OR classid = 'pg_namespace'::regclass AND EXISTS (
             SELECT FROM pg_class c WHERE c.relnamespace = d.objid AND c.relname IN ('audit_events', 'audit_seals')));
  END IF;
  IF touched IS NULL THEN RETURN; END IF;
  IF current_setting('konstruct.allow_ddl', true) = 'on' THEN
    RAISE LOG 'konstruct: % on % by % let through by konstruct.allow_ddl', TG_TAG, touched, session_user;
    RETURN;
  END IF;
  RAISE EXCEPTION '% on % is refused: it belongs to the audit trail', TG_TAG, touched
    USING ERRCODE = 'insufficient_privilege',
      HINT = 'A migration sets konstruct.allow_ddl = on first, which the server logs.';
END $guard$;
DROP EVENT TRIGGER IF EXISTS audit_guard_ddl;
DROP EVENT TRIGGER IF EXISTS audit_guard_drop;
CREATE EVENT TRIGGER audit_guard_ddl ON ddl_command_end EXECUTE FUNCTION public.audit_guard();
CREATE EVENT TRIGGER audit_guard_drop ON sql_drop EXECUTE FUNCTION public.audit_guard();
ALTER EVENT TRIGGER audit_guard_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER audit_guard_drop ENABLE ALWAYS;
REVOKE ALL ON FUNCTION public.audit_guard() FROM PUBLIC;
