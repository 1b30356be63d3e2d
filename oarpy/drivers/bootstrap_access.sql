-- Who may enter the database, and with which defaults; run by a superuser in it, and again in each
-- copy of it, for CREATE DATABASE … TEMPLATE leaves these behind.  Harmless when run again.

DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = oar, public', current_database());
    EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = ''30s''', current_database());
    -- Compiling a statement takes longer than any of oarpy's own does.  Not a default of oar_user:
    -- every user can change those, and the server takes whatever it finds there away.
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO oar_user, oar_reader', current_database());
END $$;
