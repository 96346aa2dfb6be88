-- What a dump of the database does not have: roles, their rights, and the database's settings. Each
-- `migrate` runs this in its transaction. If its role may not do something, it gives a WARNING with the
-- command for the owner.
DO $do$
DECLARE
    relation regclass;
    command text;
    why text;
    done text;
    is_done boolean;
BEGIN
    -- Roles belong to the whole server: another database may have created it, or be creating it now.
    IF to_regrole('impact_reader') IS NULL THEN
        BEGIN
            CREATE ROLE impact_reader NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;

    -- For Metabase and `python -m flusher report`.
    GRANT SELECT ON public.sessions, public.monthly_impact, public.daily_impact, public.data_quality TO impact_reader;

    -- For flushers that can't change the schema, if this role exists (deploy/postgres-roles.sql).
    IF to_regrole('impact_flusher') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA flusher TO impact_flusher;
        GRANT SELECT ON public.monthly_impact, public.daily_impact, public.data_quality TO impact_flusher;
        -- Partitions need no rights, and a flusher may be creating one now.
        FOR relation IN
            SELECT c.oid::regclass FROM pg_class c
            WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND c.relname <> 'impact_migrations'
                AND (c.relnamespace = 'flusher'::regnamespace OR c.oid = 'public.sessions'::regclass)
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO impact_flusher', relation);
        END LOOP;
    END IF;

    -- By default every role may use the schema public, but not on every server. Analysts' queries are
    -- short, and compiling one (jit) takes longer than running it.
    FOR command, why, done IN
        SELECT format('GRANT USAGE ON SCHEMA public TO %I', rolname), rolname || ' can''t reach the tables',
            format('SELECT has_schema_privilege(%L, ''public'', ''USAGE'')', rolname)
        FROM pg_roles WHERE rolname IN ('impact_reader', 'impact_flusher')
        UNION ALL
        SELECT format('ALTER DATABASE %I SET jit = off', current_database()), 'with jit reports are slow',
            $$SELECT EXISTS (
                SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                WHERE d.datname = current_database() AND s.setrole = 0 AND 'jit=off' = ANY (s.setconfig)
            )$$
    LOOP
        EXECUTE done INTO is_done;
        CONTINUE WHEN is_done;
        BEGIN
            EXECUTE command;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
        EXECUTE done INTO is_done; -- a GRANT that changes nothing is no error
        IF NOT is_done THEN
            RAISE WARNING '%; its owner has to run: %', why, command;
        END IF;
    END LOOP;
END
$do$;
