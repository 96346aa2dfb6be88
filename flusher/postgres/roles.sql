-- What a dump of the database does not hold: roles, what they may do, and the database's settings.
-- `migrate` runs it each time, in its transaction. What its role may not mend is a WARNING, with the
-- command for somebody who may.
DO $do$
DECLARE
    relation regclass;
    command text;
    why text;
    done text;
    is_done boolean;
BEGIN
    -- Roles belong to the whole server: another database may have made it, or just be making it.
    IF to_regrole('impact_reader') IS NULL THEN
        BEGIN
            CREATE ROLE impact_reader NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;

    -- Whoever reads: Metabase, `python -m flusher report`.
    GRANT SELECT ON public.sessions, public.monthly_impact, public.daily_impact, public.data_quality TO impact_reader;

    -- Whoever writes rows and can't change the schema, where there is such a role
    -- (deploy/postgres-roles.sql).
    IF to_regrole('impact_flusher') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA flusher TO impact_flusher;
        GRANT SELECT ON public.monthly_impact, public.daily_impact, public.data_quality TO impact_flusher;
        -- Not on partitions, which are reached through their table: a flusher may just be making one.
        FOR relation IN
            SELECT c.oid::regclass FROM pg_class c
            WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND c.relname <> 'impact_migrations'
                AND (c.relnamespace = 'flusher'::regnamespace OR c.oid = 'public.sessions'::regclass)
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO impact_flusher', relation);
        END LOOP;
    END IF;

    -- As the server comes, everybody may look into the schema public. And analysts' queries are short:
    -- to compile one takes longer than to run it.
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
            RAISE WARNING '%; whoever owns it is to run: %', why, command;
        END IF;
    END LOOP;
END
$do$;
