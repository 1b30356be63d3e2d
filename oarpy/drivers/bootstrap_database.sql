-- What oarpy needs in its database before its own schema; run once by a superuser in the
-- new, empty database, harmless when run again.

CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;
CREATE SCHEMA IF NOT EXISTS oar AUTHORIZATION oar;

-- PostgreSQL lets everybody do what one user must not do to the others: fill the disk with
-- large objects or log records, exhaust the table of locks, run loops in the server, end or
-- read other sessions of the same role.
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO oar, oar_gate;
DO $$
DECLARE routine regprocedure;
BEGIN
    FOR routine IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace
          AND has_function_privilege('public', oid, 'EXECUTE')
          AND proname ~ ('^(lo_.*|loread|lowrite|pg_(try_)?advisory_.*|pg_logical_emit_message'
              '|pg_(cancel|terminate)_backend|pg_stat_get_activity|pg_stat_get_backend_activity)$')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO oar', routine);
    END LOOP;
END $$;

-- Every role may change its own defaults (ALTER ROLE oar_user SET …), and with them the
-- sessions of all who share it.  Nothing of oarpy's is kept there, so whatever is found goes.
CREATE OR REPLACE FUNCTION public.restore_oar_user() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE place record;
DECLARE changed boolean := false;
BEGIN
    FOR place IN
        SELECT d.datname FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
        WHERE s.setrole = 'oar_user'::regrole
    LOOP
        changed := true;
        IF place.datname IS NULL THEN
            ALTER ROLE oar_user RESET ALL;
        ELSE
            EXECUTE format('ALTER ROLE oar_user IN DATABASE %I RESET ALL', place.datname);
        END IF;
    END LOOP;
    RETURN changed;
END $$;
COMMENT ON FUNCTION public.restore_oar_user() IS 'Removes the defaults that a user gave to the role oar_user; tells whether there were any.';
REVOKE ALL ON FUNCTION public.restore_oar_user() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.restore_oar_user() TO oar;
