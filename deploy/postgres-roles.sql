-- The roles that log in to the database. Run by a superuser, in the database, before the first
-- `python -m flusher migrate` and before a restore; safe to repeat. Then give each role that logs in a
-- password (\password in psql). Every `migrate` grants the roles their rights on the tables.

DO $$
BEGIN
    -- For `release: python -m flusher migrate` only. It owns the database, so that it may change the
    -- database's settings, and the tables that it creates.
    IF to_regrole('impact_owner') IS NULL THEN
        CREATE ROLE impact_owner LOGIN;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO impact_owner', current_database());
    GRANT USAGE, CREATE ON SCHEMA public TO impact_owner;

    -- For the flushers and their commands (`status`, `dead`). It writes rows, and can't change the schema.
    IF to_regrole('impact_flusher') IS NULL THEN
        CREATE ROLE impact_flusher LOGIN;
    END IF;

    -- For Metabase: GRANT impact_reader TO metabase. Created here, so that no other role needs CREATEROLE.
    IF to_regrole('impact_reader') IS NULL THEN
        CREATE ROLE impact_reader NOLOGIN;
    END IF;
END
$$;
