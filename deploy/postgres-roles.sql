-- Who may do what in the database. Run once, by a superuser, in the database, before the first
-- `python -m flusher migrate`; then give each role that logs in a password (\password in psql).

-- `release: python -m flusher migrate` alone logs in as this.
CREATE ROLE impact_owner LOGIN;
GRANT USAGE, CREATE ON SCHEMA public TO impact_owner;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO impact_owner', current_database()); END $$;

-- The flushers, and their commands (`status`, `dead`). It writes rows, and can't change the schema.
CREATE ROLE impact_flusher LOGIN;
ALTER DEFAULT PRIVILEGES FOR ROLE impact_owner GRANT USAGE ON SCHEMAS TO impact_flusher;
ALTER DEFAULT PRIVILEGES FOR ROLE impact_owner
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO impact_flusher;

-- Metabase: GRANT impact_reader TO metabase. Made here, so that no other role needs CREATEROLE.
CREATE ROLE impact_reader NOLOGIN;
