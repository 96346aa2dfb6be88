-- A month whose partition is gone, though nobody dropped its sessions here (by hand, or a restore
-- without it), is made again; one that was detached is attached again. Returns whether the month takes
-- sessions: one that was dropped here (0007) does not.
DROP FUNCTION flusher.create_month;
CREATE FUNCTION flusher.create_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition_name text := 'sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    IF wanted <> date_trunc('month', wanted)::date THEN
        RAISE EXCEPTION '% is not the first day of a month', wanted;
    END IF;
    -- One at a time: two flushers may find the same month missing.
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    IF EXISTS (
        SELECT FROM pg_inherits
        WHERE inhparent = 'public.sessions'::regclass
            AND inhrelid = to_regclass(format('flusher.%I', partition_name))
    ) THEN
        RETURN true;
    END IF;
    -- Its counts are final: what came now would be in no count, or in two.
    IF EXISTS (SELECT FROM flusher.counted_months WHERE month = wanted AND dropped_at IS NOT NULL)
    THEN
        RETURN false;
    END IF;
    -- Made apart and attached afterwards: attaching does not wait for who reads or writes.
    IF to_regclass(format('flusher.%I', partition_name)) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE flusher.%I (LIKE public.sessions INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
            'INCLUDING COMMENTS) WITH (fillfactor = 90)',
            partition_name
        );
        EXECUTE format(
            'COMMENT ON TABLE flusher.%I IS %L', partition_name,
            'The sessions of ' || to_char(wanted, 'YYYY-MM')
            || ': read them through the table sessions.'
        );
        -- What is known of the month is of sessions that are gone.
        PERFORM flusher.forget_counts(wanted);
        DELETE FROM flusher.changes WHERE month = wanted;
        DELETE FROM flusher.counted_months WHERE month = wanted;
        PERFORM flusher.prepare_counting(wanted);
    END IF;
    EXECUTE format(
        'ALTER TABLE public.sessions ATTACH PARTITION flusher.%I FOR VALUES IN (%L)',
        partition_name, wanted
    );
    RETURN true;
END
$$;
COMMENT ON FUNCTION flusher.create_month IS
    'Creates the partition of a month, unless it is there; false: its sessions were dropped.';
