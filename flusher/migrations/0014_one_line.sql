-- One line instead of two (docs/decisions/0012-one-line.md). How often a person came is kept at once,
-- and no longer tallied later: whoever comes for the first time is written anyway, and where anything
-- had changed below the line, what lay between the two was read again with each count and each look.

-- The tallies up to the line, as tally_month made them. Nobody counts meanwhile.
LOCK TABLE flusher.counted_months, flusher.people IN ACCESS EXCLUSIVE MODE;
UPDATE flusher.people p
SET visitor_sessions = p.visitor_sessions + n.visitor,
    signed_in_sessions = p.signed_in_sessions + n.signed_in
FROM (
    SELECT month, site, monthly_user_hash, sum(visitor) AS visitor, sum(signed_in) AS signed_in
    FROM (
        SELECT s.month, s.site, s.monthly_user_hash, (s.highest_role IS NULL)::integer AS visitor,
            (s.highest_role IS NOT NULL)::integer AS signed_in
        FROM flusher.counted_months m JOIN public.sessions s ON s.month = m.month
        WHERE m.counted_until < 'infinity'
            AND s.created_at >= m.tallied_until AND s.created_at < m.counted_until
        UNION ALL
        SELECT c.month, c.site, c.monthly_user_hash, -c.sessions * (NOT c.signed_in)::integer,
            -c.sessions * c.signed_in::integer
        FROM flusher.counted_months m JOIN flusher.changes c ON c.month = m.month
        WHERE m.counted_until < 'infinity'
            AND c.created_at >= m.tallied_until AND c.created_at < m.counted_until
    ) between_the_lines
    GROUP BY month, site, monthly_user_hash
) n
WHERE p.month = n.month AND p.site = n.site AND p.monthly_user_hash = n.monthly_user_hash;

-- As before, but for the months that are not closed.
CREATE OR REPLACE VIEW monthly_impact AS
SELECT
    month,
    site,
    sum(visitor_sessions + signed_in_sessions)::bigint AS sessions,
    sum(unique_users)::bigint AS unique_users,
    sum(signed_in_sessions)::bigint AS signed_in_sessions,
    sum(unique_signed_in_users)::bigint AS unique_signed_in_users,
    sum(visitor_sessions)::bigint AS visitor_sessions,
    sum(unique_visitors)::bigint AS unique_visitors
FROM (
    SELECT k.month, k.site, k.visitor_sessions, k.signed_in_sessions, k.unique_users,
        k.unique_signed_in_users, k.unique_visitors
    FROM flusher.monthly_counts k
    WHERE NOT EXISTS (
        SELECT FROM flusher.changed_sites c WHERE c.month = k.month AND c.site = k.site
    )
    UNION ALL
    -- Months that are not closed: who is above the line, and what has changed below it. A row for each
    -- person who may change how many came, and for each site one of all the others: those who came
    -- that way before, and of whose nothing was taken away.
    SELECT month, site, visitor, signed_in,
        (visitor_left > 0 OR signed_in_left > 0)::integer
            - (visitor_before > 0 OR signed_in_before > 0)::integer,
        (signed_in_left > 0)::integer - (signed_in_before > 0)::integer,
        (visitor_left > 0)::integer - (visitor_before > 0)::integer
    FROM (
        SELECT month, site, sum(visitor) AS visitor, sum(signed_in) AS signed_in,
            CASE WHEN person IS NOT NULL THEN max(visitor_before) END AS visitor_before,
            CASE WHEN person IS NOT NULL THEN max(signed_in_before) END AS signed_in_before,
            CASE WHEN person IS NOT NULL THEN max(visitor_before) + sum(visitor) END AS visitor_left,
            CASE WHEN person IS NOT NULL THEN max(signed_in_before) + sum(signed_in) END
                AS signed_in_left
        FROM (
            SELECT m.month, r.site, r.visitor, r.signed_in,
                coalesce(p.visitor_sessions, 0) AS visitor_before,
                coalesce(p.signed_in_sessions, 0) AS signed_in_before,
                CASE
                    WHEN r.is_of_changed OR (r.visitor > 0 AND p.visitor_sessions > 0 IS NOT TRUE)
                        OR (r.signed_in > 0 AND p.signed_in_sessions > 0 IS NOT TRUE)
                    THEN r.monthly_user_hash
                END AS person
            FROM (
                SELECT c.month, c.counted_until, EXISTS (
                    SELECT FROM flusher.changes n
                    WHERE n.month = c.month AND n.created_at < c.counted_until
                ) AS has_changes
                FROM flusher.counted_months c
                WHERE c.counted_until < 'infinity'
                OFFSET 0  -- else it is asked for each session whether there are changes
            ) m
            CROSS JOIN LATERAL (
                SELECT s.site, s.monthly_user_hash,
                    (s.highest_role IS NULL)::integer AS visitor,
                    (s.highest_role IS NOT NULL)::integer AS signed_in,
                    -- By its key, whatever the statistics say (docs/decisions/0011-by-key.md).
                    m.has_changes AND (
                        SELECT c.month FROM flusher.changes c
                        WHERE c.month = m.month AND c.monthly_user_hash = s.monthly_user_hash
                            AND c.site = s.site AND c.created_at < m.counted_until
                        LIMIT 1
                    ) IS NOT NULL AS is_of_changed
                FROM public.sessions s
                -- Between two bounds the planner expects few, and takes the index.
                WHERE s.month = m.month AND s.created_at >= m.counted_until
                    AND s.created_at < 'infinity'
                UNION ALL
                SELECT c.site, c.monthly_user_hash, c.sessions * (NOT c.signed_in)::integer,
                    c.sessions * c.signed_in::integer, true
                FROM flusher.changes c
                WHERE c.month = m.month AND c.created_at < m.counted_until
            ) r
            -- One look-up each, by the hash: a join would read all people (LIMIT keeps it from being
            -- one).
            LEFT JOIN LATERAL (
                SELECT q.visitor_sessions, q.signed_in_sessions
                FROM flusher.people q
                WHERE m.counted_until > '-infinity' AND q.month = m.month AND q.site = r.site
                    AND q.monthly_user_hash = r.monthly_user_hash
                LIMIT 1
            ) p ON true
        ) uncounted
        -- By hashing: sorting all of the rows takes as long as all the rest, and what can't be sorted
        -- by is not sorted.
        GROUP BY month, site, person, '0'::xid
    ) person_or_rest
    UNION ALL
    -- Sites of closed months that have changed since.
    SELECT m.month, d.*
    FROM (SELECT DISTINCT month FROM flusher.changed_sites) m
    CROSS JOIN LATERAL (
        SELECT p.site, sum(p.visitor_sessions), sum(p.signed_in_sessions), count(*),
            count(*) FILTER (WHERE p.signed_in_sessions > 0),
            count(*) FILTER (WHERE p.visitor_sessions > 0)
        FROM (
            SELECT s.site, s.monthly_user_hash,
                count(*) FILTER (WHERE s.highest_role IS NULL) AS visitor_sessions,
                count(*) FILTER (WHERE s.highest_role IS NOT NULL) AS signed_in_sessions
            FROM public.sessions s
            WHERE s.month = m.month
                AND s.site IN (SELECT c.site FROM flusher.changed_sites c WHERE c.month = m.month)
            GROUP BY s.site, s.monthly_user_hash
        ) p
        GROUP BY p.site
    ) d
) counted
GROUP BY month, site
HAVING sum(visitor_sessions + signed_in_sessions) > 0;

DROP VIEW flusher.uncounted;
DROP FUNCTION flusher.tally_month;
ALTER TABLE flusher.people DROP COLUMN came_as_visitor, DROP COLUMN came_signed_in;
ALTER TABLE flusher.counted_months DROP COLUMN tallied_until;
COMMENT ON TABLE flusher.people IS
    'How often each person came below the line, for the months that are not closed.';
COMMENT ON COLUMN flusher.people.visitor_sessions IS 'How many of the sessions nobody signed in in.';
COMMENT ON COLUMN flusher.people.signed_in_sessions IS 'How many of the sessions were a user''s.';

-- Moves the line of a month up to where it is watched.
DROP FUNCTION flusher.count_month;
CREATE FUNCTION flusher.count_month(counted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB'
SET client_min_messages = 'warning' AS $$
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

    CREATE TEMPORARY TABLE IF NOT EXISTS moved_people (
        site text, monthly_user_hash uuid, place tid, visitor_before bigint, signed_in_before bigint,
        visitor_after bigint, signed_in_after bigint
    ) ON COMMIT DELETE ROWS;
    -- In a statement of its own. A look-up that finds nobody holds a page of the hash index until its
    -- statement ends, and while one is held the index does not grow: what were inserted then would lie
    -- in ever longer chains.
    INSERT INTO pg_temp.moved_people
    SELECT n.site, n.monthly_user_hash, p.place,
        coalesce(p.visitor_sessions, 0), coalesce(p.signed_in_sessions, 0),
        coalesce(p.visitor_sessions, 0) + n.visitor_sessions,
        coalesce(p.signed_in_sessions, 0) + n.signed_in_sessions
    FROM (
        SELECT site, monthly_user_hash, sum(visitor) AS visitor_sessions,
            sum(signed_in) AS signed_in_sessions
        FROM (
            SELECT site, monthly_user_hash, (highest_role IS NULL)::integer AS visitor,
                (highest_role IS NOT NULL)::integer AS signed_in
            FROM public.sessions
            WHERE month = counted AND created_at >= line AND created_at < new_line
            UNION ALL
            SELECT site, monthly_user_hash, sessions * (NOT signed_in)::integer,
                sessions * signed_in::integer
            FROM flusher.changes
            WHERE month = counted AND created_at < line
        ) moved
        GROUP BY site, monthly_user_hash, '0'::xid  -- by hashing, as in monthly_impact
    ) n
    LEFT JOIN LATERAL (
        SELECT q.ctid AS place, q.visitor_sessions, q.signed_in_sessions
        FROM flusher.people q
        WHERE q.month = counted AND q.site = n.site AND q.monthly_user_hash = n.monthly_user_hash
        LIMIT 1
    ) p ON true;

    UPDATE flusher.people p
    SET visitor_sessions = m.visitor_after, signed_in_sessions = m.signed_in_after
    FROM pg_temp.moved_people m
    WHERE p.ctid = m.place;

    INSERT INTO flusher.people (month, site, monthly_user_hash, visitor_sessions, signed_in_sessions)
    SELECT counted, site, monthly_user_hash, visitor_after, signed_in_after
    FROM pg_temp.moved_people
    WHERE place IS NULL;

    INSERT INTO flusher.monthly_counts AS c
    SELECT site, counted,
        sum(visitor_after - visitor_before),
        sum(signed_in_after - signed_in_before),
        sum((visitor_after > 0 OR signed_in_after > 0)::integer
            - (visitor_before > 0 OR signed_in_before > 0)::integer),
        sum((signed_in_after > 0)::integer - (signed_in_before > 0)::integer),
        sum((visitor_after > 0)::integer - (visitor_before > 0)::integer)
    FROM pg_temp.moved_people
    GROUP BY site
    ON CONFLICT (site, month) DO UPDATE
    SET visitor_sessions = c.visitor_sessions + excluded.visitor_sessions,
        signed_in_sessions = c.signed_in_sessions + excluded.signed_in_sessions,
        unique_users = c.unique_users + excluded.unique_users,
        unique_signed_in_users = c.unique_signed_in_users + excluded.unique_signed_in_users,
        unique_visitors = c.unique_visitors + excluded.unique_visitors;

    INSERT INTO flusher.daily_counts AS c
    SELECT site, counted, day, sum(visitor), sum(signed_in)
    FROM (
        SELECT site, (created_at AT TIME ZONE (SELECT timezone FROM flusher.calendar))::date AS day,
            (highest_role IS NULL)::integer AS visitor,
            (highest_role IS NOT NULL)::integer AS signed_in
        FROM public.sessions
        WHERE month = counted AND created_at >= line AND created_at < new_line
        UNION ALL
        SELECT site, (created_at AT TIME ZONE (SELECT timezone FROM flusher.calendar))::date,
            sessions * (NOT signed_in)::integer, sessions * signed_in::integer
        FROM flusher.changes
        WHERE month = counted AND created_at < line
    ) moved
    GROUP BY site, day, '0'::xid
    ON CONFLICT (site, month, day) DO UPDATE
    SET visitor_sessions = c.visitor_sessions + excluded.visitor_sessions,
        signed_in_sessions = c.signed_in_sessions + excluded.signed_in_sessions;

    TRUNCATE pg_temp.moved_people;
    DELETE FROM flusher.changes WHERE month = counted AND created_at < new_line;
    UPDATE flusher.counted_months SET counted_until = new_line WHERE month = counted;
END
$$;
COMMENT ON FUNCTION flusher.count_month IS
    'Takes into the kept counts what began since the line, up to where the month is watched.';

-- There is one line to forget.
CREATE OR REPLACE FUNCTION flusher.forget_counts(forgotten date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The row first: it is what whoever counts this month holds or waits for.
    UPDATE flusher.counted_months SET counted_until = '-infinity' WHERE month = forgotten;
    DELETE FROM flusher.monthly_counts WHERE month = forgotten;
    DELETE FROM flusher.daily_counts WHERE month = forgotten;
    DELETE FROM flusher.people WHERE month = forgotten;
END
$$;
