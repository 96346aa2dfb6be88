-- An upgrade writes its session anew. Where there is room for that on the session's own page, the
-- primary key needs no second entry for it (HOT). So a month
-- leaves a tenth of each page free: about one session in ten is upgraded.

CREATE OR REPLACE FUNCTION flusher.create_month(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition_name text := 'sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    IF wanted <> date_trunc('month', wanted)::date THEN
        RAISE EXCEPTION '% is not the first day of a month', wanted;
    END IF;
    -- One at a time: two flushers may find the same month missing.
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    IF to_regclass(format('flusher.%I', partition_name)) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Its counts are final: what came now would be in no count, or in two.
    IF EXISTS (SELECT FROM flusher.counted_months WHERE month = wanted AND dropped_at IS NOT NULL)
    THEN
        RAISE EXCEPTION 'the sessions of % were dropped', to_char(wanted, 'YYYY-MM')
            USING ERRCODE = 'check_violation';
    END IF;
    -- Made apart and attached afterwards: attaching does not wait for who reads or writes.
    EXECUTE format(
        'CREATE TABLE flusher.%I (LIKE public.sessions INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
        'INCLUDING COMMENTS) WITH (fillfactor = 90)',
        partition_name
    );
    EXECUTE format(
        'COMMENT ON TABLE flusher.%I IS %L', partition_name,
        'The sessions of ' || to_char(wanted, 'YYYY-MM') || ': read them through the table sessions.'
    );
    PERFORM flusher.prepare_counting(wanted);
    EXECUTE format(
        'ALTER TABLE public.sessions ATTACH PARTITION flusher.%I FOR VALUES IN (%L)',
        partition_name, wanted
    );
END
$$;

-- Months that are there, and still grow.
DO $$
DECLARE
    growing date;
BEGIN
    FOR growing IN
        SELECT month FROM flusher.counted_months
        WHERE counted_until < 'infinity' AND dropped_at IS NULL
    LOOP
        EXECUTE format('ALTER TABLE flusher.%I SET (fillfactor = 90)',
            'sessions_' || to_char(growing, 'YYYY_MM'));
    END LOOP;
END
$$;
