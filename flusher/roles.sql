-- What a dump of the database does not hold: roles, and the database's settings.
DO $$
BEGIN
    IF to_regrole('impact_reader') IS NULL THEN
        CREATE ROLE impact_reader NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- made by somebody else between the look and the creation
END
$$;
GRANT USAGE ON SCHEMA public TO impact_reader;
GRANT SELECT ON public.sessions, public.monthly_impact, public.daily_impact TO impact_reader;
-- Analysts' queries are short, and compiling one takes longer than running it.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'jit stays as it is: this role does not own the database';
END
$$;
