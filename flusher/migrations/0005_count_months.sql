-- Counting, in two transactions: `watch_month`, then in a new one, REPEATABLE READ, `count_month` or
-- `close_month`. Between the two a change is noted though it is still above the line, which harms
-- nobody: who reads leaves such notes out, and who counts deletes them.

-- Notes changes of what began before `line`, from now on. Waits for whoever writes to the partition:
-- what they have written is seen by a transaction that begins after this one, and what is written
-- from then on meets the triggers. The line is part of the triggers' conditions, so that a session
-- above it costs next to nothing.
CREATE FUNCTION flusher.watch_month(watched date, line timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    partition_name text := 'sessions_' || to_char(watched, 'YYYY_MM');
    closing boolean := line = 'infinity';
BEGIN
    EXECUTE format('LOCK TABLE flusher.%I IN %s MODE', partition_name,
        CASE WHEN closing THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END);
    EXECUTE format('CREATE OR REPLACE TRIGGER inserted_below_the_line AFTER INSERT ON flusher.%I '
        'FOR EACH ROW WHEN (NEW.created_at < %L) EXECUTE FUNCTION flusher.note_change()',
        partition_name, line);
    EXECUTE format('CREATE OR REPLACE TRIGGER updated_below_the_line AFTER UPDATE ON flusher.%I '
        'FOR EACH ROW WHEN (OLD.created_at < %L OR NEW.created_at < %L) '
        'EXECUTE FUNCTION flusher.note_change()',
        partition_name, line, line);
    EXECUTE format('CREATE OR REPLACE TRIGGER deleted_below_the_line AFTER DELETE ON flusher.%I '
        'FOR EACH ROW WHEN (OLD.created_at < %L) EXECUTE FUNCTION flusher.note_change()',
        partition_name, line);
    IF closing THEN
        EXECUTE format('DROP INDEX IF EXISTS flusher.%I', partition_name || '_created_at');
    END IF;
    UPDATE flusher.counted_months SET watched_until = line WHERE month = watched;
END
$$;
COMMENT ON FUNCTION flusher.watch_month IS
    'Notes from now on what changes among a month''s sessions that began before an instant.';

-- Moves the line of a month up to where it is watched.
CREATE FUNCTION flusher.count_month(counted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' AS $$
DECLARE
    line timestamptz;
    new_line timestamptz;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'counting needs one snapshot: REPEATABLE READ';
    END IF;
    -- Fails when somebody else has counted or forgotten this month since the snapshot.
    SELECT counted_until, watched_until INTO STRICT line, new_line
    FROM flusher.counted_months WHERE month = counted FOR UPDATE;

    WITH moved AS (
        SELECT site, monthly_user_hash,
            count(*) FILTER (WHERE highest_role IS NULL) AS visitor_sessions,
            count(*) FILTER (WHERE highest_role IS NOT NULL) AS signed_in_sessions
        FROM public.sessions
        WHERE month = counted AND created_at >= line AND created_at < new_line
        GROUP BY site, monthly_user_hash
        UNION ALL
        SELECT site, monthly_user_hash,
            coalesce(sum(sessions) FILTER (WHERE NOT signed_in), 0),
            coalesce(sum(sessions) FILTER (WHERE signed_in), 0)
        FROM flusher.changes
        WHERE month = counted AND created_at < line
        GROUP BY site, monthly_user_hash
    ),
    net AS (
        SELECT site, monthly_user_hash, sum(visitor_sessions)::integer AS visitor_sessions,
            sum(signed_in_sessions)::integer AS signed_in_sessions
        FROM moved
        GROUP BY site, monthly_user_hash
    ),
    after AS MATERIALIZED (
        SELECT n.site, n.monthly_user_hash,
            coalesce(p.visitor_sessions, 0) AS visitor_before,
            coalesce(p.signed_in_sessions, 0) AS signed_in_before,
            coalesce(p.visitor_sessions, 0) + n.visitor_sessions AS visitor_after,
            coalesce(p.signed_in_sessions, 0) + n.signed_in_sessions AS signed_in_after
        FROM net n
        LEFT JOIN flusher.people p ON p.month = counted AND p.site = n.site
            AND p.monthly_user_hash = n.monthly_user_hash
        ORDER BY n.site, n.monthly_user_hash
    ),
    stored AS (
        INSERT INTO flusher.people
        SELECT counted, site, monthly_user_hash, visitor_after, signed_in_after FROM after
        ON CONFLICT (month, site, monthly_user_hash) DO UPDATE
        SET visitor_sessions = excluded.visitor_sessions,
            signed_in_sessions = excluded.signed_in_sessions
    )
    INSERT INTO flusher.monthly_counts AS c
    SELECT site, counted,
        sum(visitor_after - visitor_before),
        sum(signed_in_after - signed_in_before),
        sum((visitor_after + signed_in_after > 0)::integer
            - (visitor_before + signed_in_before > 0)::integer),
        sum((signed_in_after > 0)::integer - (signed_in_before > 0)::integer),
        sum((visitor_after > 0)::integer - (visitor_before > 0)::integer)
    FROM after
    GROUP BY site
    ON CONFLICT (site, month) DO UPDATE
    SET visitor_sessions = c.visitor_sessions + excluded.visitor_sessions,
        signed_in_sessions = c.signed_in_sessions + excluded.signed_in_sessions,
        unique_users = c.unique_users + excluded.unique_users,
        unique_signed_in_users = c.unique_signed_in_users + excluded.unique_signed_in_users,
        unique_visitors = c.unique_visitors + excluded.unique_visitors;

    INSERT INTO flusher.daily_counts AS c
    SELECT site, counted, day, coalesce(sum(sessions) FILTER (WHERE NOT signed_in), 0),
        coalesce(sum(sessions) FILTER (WHERE signed_in), 0)
    FROM (
        SELECT s.site, (s.created_at AT TIME ZONE k.timezone)::date AS day,
            s.highest_role IS NOT NULL AS signed_in, 1 AS sessions
        FROM public.sessions s CROSS JOIN flusher.calendar k
        WHERE s.month = counted AND s.created_at >= line AND s.created_at < new_line
        UNION ALL
        SELECT c.site, (c.created_at AT TIME ZONE k.timezone)::date, c.signed_in, c.sessions
        FROM flusher.changes c CROSS JOIN flusher.calendar k
        WHERE c.month = counted AND c.created_at < line
    ) moved
    GROUP BY site, day
    ON CONFLICT (site, month, day) DO UPDATE
    SET visitor_sessions = c.visitor_sessions + excluded.visitor_sessions,
        signed_in_sessions = c.signed_in_sessions + excluded.signed_in_sessions;

    DELETE FROM flusher.changes WHERE month = counted AND created_at < new_line;
    UPDATE flusher.counted_months SET counted_until = new_line WHERE month = counted;
END
$$;
COMMENT ON FUNCTION flusher.count_month IS
    'Takes into the kept counts what began since the line, up to where the month is watched.';

-- Counts a month from its sessions: all of it, and from now on it is closed, or where it is closed the
-- sites that have changed.
CREATE FUNCTION flusher.close_month(closed date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' AS $$
DECLARE
    line timestamptz;
    new_line timestamptz;
    sites text[];
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'counting needs one snapshot: REPEATABLE READ';
    END IF;
    SELECT counted_until, watched_until INTO STRICT line, new_line
    FROM flusher.counted_months WHERE month = closed FOR UPDATE;
    IF new_line <> 'infinity' THEN
        RAISE EXCEPTION '% is not watched', closed;
    END IF;
    IF line = 'infinity' THEN
        SELECT array_agg(DISTINCT site) INTO sites FROM flusher.changes WHERE month = closed;
    END IF;

    DELETE FROM flusher.monthly_counts
    WHERE month = closed AND (line < 'infinity' OR site = ANY (sites));
    INSERT INTO flusher.monthly_counts
    SELECT site, closed, sum(visitor_sessions), sum(signed_in_sessions), count(*),
        count(*) FILTER (WHERE signed_in_sessions > 0), count(*) FILTER (WHERE visitor_sessions > 0)
    FROM (
        SELECT site, monthly_user_hash,
            count(*) FILTER (WHERE highest_role IS NULL) AS visitor_sessions,
            count(*) FILTER (WHERE highest_role IS NOT NULL) AS signed_in_sessions
        FROM public.sessions
        WHERE month = closed AND (line < 'infinity' OR site = ANY (sites))
        GROUP BY site, monthly_user_hash
    ) people
    GROUP BY site;

    DELETE FROM flusher.daily_counts
    WHERE month = closed AND (line < 'infinity' OR site = ANY (sites));
    INSERT INTO flusher.daily_counts
    SELECT s.site, closed, (s.created_at AT TIME ZONE k.timezone)::date AS day,
        count(*) FILTER (WHERE s.highest_role IS NULL),
        count(*) FILTER (WHERE s.highest_role IS NOT NULL)
    FROM public.sessions s CROSS JOIN flusher.calendar k
    WHERE s.month = closed AND (line < 'infinity' OR s.site = ANY (sites))
    GROUP BY s.site, day;

    DELETE FROM flusher.people WHERE month = closed;
    DELETE FROM flusher.changes WHERE month = closed;
    UPDATE flusher.counted_months SET counted_until = 'infinity' WHERE month = closed;
END
$$;
COMMENT ON FUNCTION flusher.close_month IS
    'Counts a finished month once and for all, or the sites of it that have changed since.';
