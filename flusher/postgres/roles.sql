-- What a dump of the database does not have: roles, their rights, and the database's settings. Each `migrate` runs
-- this. If its role may not do something, a WARNING has the command for the owner.
DO $do$
DECLARE
    command text;
    why text;
    is_allowed boolean;
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
        -- Not on partitions: they need no rights, and a flusher may be creating one now.
        GRANT SELECT, INSERT, UPDATE, DELETE ON public.sessions, flusher.state, flusher.months, flusher.salts, flusher.upgrades,
            flusher.counts, flusher.count_changes, flusher.quality_counts, flusher.sign_in_digests, flusher.imports TO impact_flusher;
    END IF;

    -- By default every role may use the schema public, but not on every server. Analysts' queries are
    -- short, and compiling one (jit) takes longer than running it.
    FOR command, why, is_allowed IN
        SELECT format('GRANT USAGE ON SCHEMA public TO %I', rolname), rolname || ' can''t reach the tables',
            has_schema_privilege('public', 'USAGE WITH GRANT OPTION')
        FROM pg_roles
        WHERE rolname IN ('impact_reader', 'impact_flusher') AND NOT has_schema_privilege(rolname, 'public', 'USAGE')
        UNION ALL
        SELECT format('ALTER DATABASE %I SET jit = off', datname), 'with jit reports are slow', pg_has_role(datdba, 'USAGE')
        FROM pg_database d WHERE datname = current_database() AND NOT EXISTS (
            SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0 AND 'jit=off' = ANY (setconfig)
        )
    LOOP
        IF is_allowed THEN
            EXECUTE command;
        ELSE
            RAISE WARNING '%; its owner has to run: %', why, command;
        END IF;
    END LOOP;
END
$do$;
