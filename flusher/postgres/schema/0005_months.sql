-- A month's way: made, open, closed, perhaps dropped. What takes the rights of the tables' owner is a
-- function here, so that a flusher needs none of them. Partitions follow what flusher.months says,
-- never the other way round: logical replication carries rows and no partitions.

-- Makes what a month needs, unless it is there. Returns whether it takes sessions: one whose sessions
-- were dropped does not.
CREATE FUNCTION flusher.create_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition text := 'sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    -- One at a time: two flushers may find the same month missing.
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    INSERT INTO flusher.months (month) VALUES (wanted) ON CONFLICT (month) DO NOTHING;
    IF EXISTS (SELECT FROM flusher.months WHERE month = wanted AND dropped_at IS NOT NULL) THEN
        RETURN false;
    END IF;
    IF EXISTS (
        SELECT FROM pg_inherits WHERE inhparent = 'public.sessions'::regclass
            AND inhrelid = to_regclass(format('flusher.%I', partition))
    ) THEN
        RETURN true;
    END IF;
    -- A partition is made apart and attached afterwards: attaching does not wait for who reads or
    -- writes. One that was detached is attached again.
    EXECUTE format('CREATE TABLE IF NOT EXISTS flusher.%I '
        '(LIKE public.sessions INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)', partition);
    EXECUTE format('ALTER TABLE public.sessions ATTACH PARTITION flusher.%I FOR VALUES IN (%L)', partition, wanted);
    -- What was counted before is of a partition that is gone.
    INSERT INTO flusher.count_changes SELECT * FROM flusher.missing_counts(wanted);
    RETURN true;
END
$$;

-- Drops a month's sessions (SESSIONS_KEPT_MONTHS); its counts stay. Returns whether it did: never those
-- of a month that is not closed.
CREATE FUNCTION flusher.drop_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE flusher.months SET dropped_at = coalesce(dropped_at, now()) WHERE month = wanted AND closed_at IS NOT NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS flusher.%I', 'sessions_' || to_char(wanted, 'YYYY_MM'));
    RETURN true;
END
$$;
