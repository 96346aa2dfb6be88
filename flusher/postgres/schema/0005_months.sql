-- A month's way: made, open, closed, perhaps dropped. What takes the rights of the tables' owner is a
-- function here, so that a flusher needs none of them. Partitions follow what flusher.months says,
-- never the other way round: logical replication carries rows and no partitions.

-- Makes what a month needs, unless it is there. Returns whether it takes sessions: one whose sessions
-- were dropped does not.
CREATE FUNCTION flusher.create_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sessions_name text := 'sessions_' || to_char(wanted, 'YYYY_MM');
    people_name text := 'people_' || to_char(wanted, 'YYYY_MM');
    found_month flusher.months;
    made boolean := false;
BEGIN
    -- One at a time: two flushers may find the same month missing.
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    INSERT INTO flusher.months (month) VALUES (wanted) ON CONFLICT (month) DO NOTHING;
    SELECT * INTO found_month FROM flusher.months WHERE month = wanted;
    IF found_month.dropped_at IS NOT NULL THEN
        RETURN false;
    END IF;
    -- A partition is made apart and attached afterwards: attaching does not wait for who reads or
    -- writes. One that was detached is attached again. There is room on each page for the new version
    -- of a row that changes (an upgrade, a person who comes back), so that no index has to know of it.
    IF NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhparent = 'public.sessions'::regclass
            AND inhrelid = to_regclass(format('flusher.%I', sessions_name))
    ) THEN
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS flusher.%I (LIKE public.sessions INCLUDING DEFAULTS '
            'INCLUDING CONSTRAINTS INCLUDING COMMENTS) WITH (fillfactor = 90)', sessions_name);
        EXECUTE format('COMMENT ON TABLE flusher.%I IS %L', sessions_name,
            'Sessions of ' || to_char(wanted, 'YYYY-MM') || ': read them through the table sessions.');
        EXECUTE format('ALTER TABLE public.sessions ATTACH PARTITION flusher.%I FOR VALUES IN (%L)',
            sessions_name, wanted);
        made := true;
    END IF;
    IF found_month.closed_at IS NULL AND to_regclass('flusher.' || people_name) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE flusher.%I (LIKE flusher.people INCLUDING COMMENTS) WITH (fillfactor = 80)',
            people_name);
        EXECUTE format('COMMENT ON TABLE flusher.%I IS %L', people_name,
            'The people of ' || to_char(wanted, 'YYYY-MM') || ': see the table people.');
        EXECUTE format('ALTER TABLE flusher.people ATTACH PARTITION flusher.%I FOR VALUES IN (%L)',
            people_name, wanted);
        made := true;
    END IF;
    IF made THEN
        -- What was counted before is of partitions that are gone.
        INSERT INTO flusher.recounts (month, site)
        SELECT month, site FROM flusher.monthly_counts WHERE month = wanted
        UNION
        SELECT month, site FROM flusher.count_changes WHERE month = wanted
        ON CONFLICT (month, site) DO NOTHING;
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION flusher.create_month IS 'Makes the partitions of a month, unless they are there; false: its sessions were dropped.';

-- An upgrade of `current` looks a visitor up by hash. That takes an index which makes a partition
-- three times as dear to write (measured), so a month gets it when the first such upgrade comes; and
-- two that cost each upgrade by id.
CREATE FUNCTION flusher.index_visitors(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sessions_name text := 'sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    -- Asked for first: even where the index is there, CREATE INDEX waits for who writes.
    IF to_regclass('flusher.upgrades_by_replaced_hash') IS NULL THEN
        CREATE INDEX upgrades_by_replaced_hash ON flusher.upgrades (replaced_hash, upgraded_at)
            WHERE replaced_hash IS NOT NULL;
        CREATE INDEX upgrades_by_visitor_and_user ON flusher.upgrades (replaced_hash, user_hash)
            WHERE replaced_hash IS NOT NULL;
    END IF;
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON flusher.%I (monthly_user_hash, created_at, id) '
        'WHERE highest_role IS NULL',
        sessions_name || '_visitors', sessions_name);
END
$$;
COMMENT ON FUNCTION flusher.index_visitors IS 'Makes a month''s visitors quick to find, for upgrades of `current`.';

-- When a month may be closed, if nothing of it is on its way: over, and some days old. By this
-- server's clock and the calendar's zone.
CREATE FUNCTION flusher.may_be_closed(wanted date, grace interval) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT now() >= (wanted + interval '1 month') AT TIME ZONE c.timezone + grace FROM flusher.calendar c
$$;
COMMENT ON FUNCTION flusher.may_be_closed IS 'Whether a month is over, and has been for some days.';

-- Closes a month, for good: its people are forgotten. Returns whether it is closed.
CREATE FUNCTION flusher.close_month(wanted date, grace interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- No batch is at work: each sees the month either open or closed from its beginning on.
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.sessions', 0));
    UPDATE flusher.months SET closed_at = coalesce(closed_at, now())
    WHERE month = wanted AND (closed_at IS NOT NULL OR flusher.may_be_closed(wanted, grace))
        -- What is to be counted again takes its people with it.
        AND NOT EXISTS (SELECT FROM flusher.recounts r WHERE r.month = wanted);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS flusher.%I', 'people_' || to_char(wanted, 'YYYY_MM'));
    RETURN true;
END
$$;
COMMENT ON FUNCTION flusher.close_month IS 'Forgets the people of a month that is over.';

-- Drops a month's sessions (SESSIONS_KEPT_MONTHS); its counts stay. Returns whether it did: never those
-- of a month that is not closed, or whose counts do not hold.
CREATE FUNCTION flusher.drop_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.sessions', 0));
    UPDATE flusher.months SET dropped_at = coalesce(dropped_at, now())
    WHERE month = wanted AND closed_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM flusher.recounts r WHERE r.month = wanted);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS flusher.%I', 'sessions_' || to_char(wanted, 'YYYY_MM'));
    RETURN true;
END
$$;
COMMENT ON FUNCTION flusher.drop_month IS 'Drops the sessions of a closed month; its counts are kept for good.';
