-- Who may log in to the database, and as what. Run by a superuser, in the database, before the first
-- `python -m flusher migrate` and before a restore; safe to repeat. Then give each role that logs in a
-- password (\password in psql). What each may do with the tables, every `migrate` sees to.

DO $$
BEGIN
    -- `release: python -m flusher migrate` alone logs in as this. It owns the database, so that it may
    -- set what the database needs, and all that it makes there.
    IF to_regrole('impact_owner') IS NULL THEN
        CREATE ROLE impact_owner LOGIN;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO impact_owner', current_database());
    GRANT USAGE, CREATE ON SCHEMA public TO impact_owner;

    -- The flushers, and their commands (`status`, `dead`). It writes rows, and can't change the schema.
    IF to_regrole('impact_flusher') IS NULL THEN
        CREATE ROLE impact_flusher LOGIN;
    END IF;

    -- Metabase: GRANT impact_reader TO metabase. Made here, so that no other role needs CREATEROLE.
    IF to_regrole('impact_reader') IS NULL THEN
        CREATE ROLE impact_reader NOLOGIN;
    END IF;
END
$$;
