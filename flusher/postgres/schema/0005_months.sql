-- A month is created, closed and perhaps dropped. These functions run with the rights of the tables' owner, so that a
-- flusher needs none. flusher.months decides which partitions there are: logical replication copies rows, not partitions.

-- Creates a month and its partition where missing. Returns false if its sessions were dropped, so that it takes none.
CREATE FUNCTION flusher.create_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition text := 'flusher.sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    -- One at a time: two flushers may need the same month.
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    INSERT INTO flusher.months (month) VALUES (wanted) ON CONFLICT (month) DO NOTHING;
    IF EXISTS (SELECT FROM flusher.months WHERE month = wanted AND dropped_at IS NOT NULL) THEN
        RETURN false;
    ELSIF NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhparent = 'public.sessions'::regclass AND inhrelid = to_regclass(partition)
    ) THEN
        -- Attaching a finished table does not wait for readers and writers. A detached partition is attached, too.
        EXECUTE format('CREATE TABLE IF NOT EXISTS %s '
            '(LIKE public.sessions INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)', partition);
        EXECUTE format('ALTER TABLE public.sessions ATTACH PARTITION %s FOR VALUES IN (%L)', partition, wanted);
        -- The month may have counts, if its partition was lost.
        INSERT INTO flusher.count_changes SELECT * FROM flusher.missing_counts(wanted);
    END IF;
    RETURN true;
END
$$;

-- Closes a month (docs/decisions/0018-ended-months.md). Unless `keeps` is `instant`, rewrites its sessions in an
-- order that shows nothing, and the upgrades that are kept. Returns false if it was dropped, or already closed like this.
CREATE FUNCTION flusher.close_month(wanted date, keeps text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = on AS $$
DECLARE
    partition regclass := to_regclass('flusher.sessions_' || to_char(wanted, 'YYYY_MM'));
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.sessions', 0));
    DELETE FROM flusher.sign_in_digests WHERE month = wanted;
    UPDATE flusher.months SET closed_at = coalesce(closed_at, now()), kept = nullif(keeps, 'instant')
    WHERE month = wanted AND dropped_at IS NULL AND (closed_at IS NULL OR kept IS DISTINCT FROM nullif(keeps, 'instant'));
    IF NOT FOUND OR keeps = 'instant' OR partition IS NULL THEN
        RETURN FOUND;
    END IF;
    EXECUTE format('LOCK TABLE flusher.upgrades, %s', partition);
    EXECUTE format($q$ -- imported sessions (with ids of version 8) keep their ids, so that an import can be repeated
        CREATE TEMPORARY TABLE ended ON COMMIT DROP AS
        SELECT CASE WHEN substr(id::text, 15, 1) = '8' THEN id ELSE gen_random_uuid() END AS id, month, site, monthly_user_hash,
            highest_role, date_trunc($1, created_at, timezone) AS created_at, date_trunc($1, upgraded_at, timezone) AS upgraded_at
        FROM %s, flusher.state ORDER BY site, monthly_user_hash, id $q$, partition) USING keeps;
    CREATE TEMPORARY TABLE at_hand ON COMMIT DROP AS SELECT * FROM flusher.upgrades WHERE session_month IS DISTINCT FROM wanted;
    EXECUTE format('TRUNCATE flusher.upgrades, %s', partition);
    EXECUTE format('INSERT INTO %s SELECT * FROM ended', partition);
    INSERT INTO flusher.upgrades SELECT * FROM at_hand;
    EXECUTE format('ANALYZE %s', partition); -- its statistics are of the old rows
    RETURN true;
END
$$;

-- Drops a month's sessions (SESSIONS_KEPT_MONTHS); its counts stay. Returns false if the month is not closed.
CREATE FUNCTION flusher.drop_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE flusher.months SET dropped_at = coalesce(dropped_at, now()) WHERE month = wanted AND closed_at IS NOT NULL;
    IF FOUND THEN
        EXECUTE 'DROP TABLE IF EXISTS flusher.sessions_' || to_char(wanted, 'YYYY_MM');
    END IF;
    RETURN FOUND; -- EXECUTE does not change it
END
$$;
