-- What oarpy needs of a PostgreSQL server before its own schema; run once by a superuser,
-- harmless when run again.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oar') THEN
        CREATE ROLE oar LOGIN;  -- owns the schema: the server, and admins
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oar_user') THEN
        CREATE ROLE oar_user LOGIN;  -- every user's commands
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oar_reader') THEN
        CREATE ROLE oar_reader LOGIN;  -- reads everything, changes nothing
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oar_gate') THEN
        CREATE ROLE oar_gate NOLOGIN;  -- owns the functions and views that oar_user may use
    END IF;
END $$;
GRANT oar_gate TO oar;
-- A new leader ends the sessions of the one before it; the server ends over-long transactions.
GRANT pg_signal_backend, pg_read_all_stats, pg_use_reserved_connections TO oar;
ALTER ROLE oar SET temp_file_limit = -1;
-- An admin may think for a while between BEGIN and COMMIT; server sessions set their own.
ALTER ROLE oar SET idle_in_transaction_session_timeout = '10min';
