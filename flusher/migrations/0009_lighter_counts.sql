-- Moving the line and looking above it, at a fraction of the cost (docs/decisions/0006-kept-counts.md).
--
-- People are looked up by their hash alone, and only those are grouped that may change a count of
-- people. Whether somebody came below the line is known for each person at any time; how often is
-- needed only when one of their sessions is taken away, which is why it is tallied later, when there
-- is time: up to a second line, `tallied_until`. For each person and kind of session
--
--     sessions below the second line = the tally + changes below the second line
--
-- and so, for who is in a change, sessions of now = that + sessions above the second line.

ALTER TABLE flusher.counted_months ADD COLUMN tallied_until timestamptz NOT NULL DEFAULT '-infinity';
UPDATE flusher.counted_months SET tallied_until = counted_until;
ALTER TABLE flusher.counted_months
    ADD CONSTRAINT what_is_tallied_is_counted CHECK (tallied_until <= counted_until);
COMMENT ON COLUMN flusher.counted_months.tallied_until IS
    'How often each person came (flusher.people) is known of what began before it.';

-- Written anew, with room in each page for another version of a row: it then needs no new entry in
-- the index. Unique by who writes it: one at a time, under the lock of the month's line.
ALTER TABLE flusher.people DROP CONSTRAINT people_pkey;
ALTER TABLE flusher.people SET (fillfactor = 70);
ALTER TABLE flusher.people
    ADD COLUMN came_as_visitor boolean NOT NULL DEFAULT false,
    ADD COLUMN came_signed_in boolean NOT NULL DEFAULT false;
ALTER TABLE flusher.people
    ALTER COLUMN came_as_visitor TYPE boolean USING visitor_sessions > 0,
    ALTER COLUMN came_signed_in TYPE boolean USING signed_in_sessions > 0;
CREATE INDEX people_by_hash ON flusher.people USING hash (monthly_user_hash);
ALTER TABLE flusher.people ALTER COLUMN visitor_sessions SET DEFAULT 0;
ALTER TABLE flusher.people ALTER COLUMN signed_in_sessions SET DEFAULT 0;
COMMENT ON TABLE flusher.people IS
    'Who came below the line, and how often below the second one, for the months that are not closed.';
COMMENT ON COLUMN flusher.people.visitor_sessions IS
    'How many of the sessions below the second line nobody signed in in.';
COMMENT ON COLUMN flusher.people.signed_in_sessions IS
    'How many of the sessions below the second line were a user''s.';
COMMENT ON COLUMN flusher.people.came_as_visitor IS
    'Whether there is a session below the line in which nobody signed in.';
COMMENT ON COLUMN flusher.people.came_signed_in IS
    'Whether there is a session below the line that is a user''s.';

DROP INDEX flusher.changes_by_month;
CREATE INDEX changes_by_person ON flusher.changes (month, monthly_user_hash);

CREATE VIEW flusher.uncounted AS
SELECT
    m.month, r.site, r.created_at, r.visitor, r.signed_in, r.visitor_now, r.signed_in_now,
    r.is_change, p.place, p.visitor_sessions, p.signed_in_sessions,
    coalesce(p.came_as_visitor, false) AS came_as_visitor,
    coalesce(p.came_signed_in, false) AS came_signed_in,
    CASE
        WHEN r.is_of_changed OR (r.visitor > 0 AND p.came_as_visitor IS NOT TRUE)
            OR (r.signed_in > 0 AND p.came_signed_in IS NOT TRUE)
        THEN r.monthly_user_hash
    END AS person
FROM (
    SELECT c.month, c.counted_until, c.tallied_until, EXISTS (
        SELECT FROM flusher.changes n WHERE n.month = c.month AND n.created_at < c.counted_until
    ) AS has_changes
    FROM flusher.counted_months c
    WHERE c.counted_until < 'infinity'
) m
CROSS JOIN LATERAL (
    SELECT s.site, s.monthly_user_hash, s.created_at,
        (s.highest_role IS NULL)::integer AS visitor,
        (s.highest_role IS NOT NULL)::integer AS signed_in,
        (s.highest_role IS NULL)::integer AS visitor_now,
        (s.highest_role IS NOT NULL)::integer AS signed_in_now,
        false AS is_change,
        m.has_changes AND EXISTS (
            SELECT FROM flusher.changes c
            WHERE c.month = m.month AND c.monthly_user_hash = s.monthly_user_hash
                AND c.site = s.site AND c.created_at < m.counted_until
        ) AS is_of_changed
    FROM public.sessions s
    -- Between two bounds the planner expects few, and takes the index.
    WHERE s.month = m.month AND s.created_at >= m.counted_until AND s.created_at < 'infinity'
    UNION ALL
    SELECT c.site, c.monthly_user_hash, c.created_at,
        c.sessions * (NOT c.signed_in)::integer,
        c.sessions * c.signed_in::integer,
        c.sessions * (NOT c.signed_in AND c.created_at < m.tallied_until)::integer,
        c.sessions * (c.signed_in AND c.created_at < m.tallied_until)::integer,
        true, true
    FROM flusher.changes c
    WHERE c.month = m.month AND c.created_at < m.counted_until
    UNION ALL
    -- Counted, and not yet tallied: only of who is in a change.
    SELECT s.site, s.monthly_user_hash, s.created_at, 0, 0,
        (s.highest_role IS NULL)::integer, (s.highest_role IS NOT NULL)::integer, false, true
    FROM public.sessions s
    WHERE m.has_changes AND s.month = m.month
        AND s.created_at >= m.tallied_until AND s.created_at < m.counted_until
        AND EXISTS (
            SELECT FROM flusher.changes c
            WHERE c.month = m.month AND c.monthly_user_hash = s.monthly_user_hash
                AND c.site = s.site AND c.created_at < m.counted_until
        )
) r
-- One look-up each, by the hash: a join would read all people (LIMIT keeps it from being one).
LEFT JOIN LATERAL (
    SELECT q.ctid AS place, q.visitor_sessions, q.signed_in_sessions, q.came_as_visitor,
        q.came_signed_in
    FROM flusher.people q
    WHERE m.counted_until > '-infinity' AND q.month = m.month AND q.site = r.site
        AND q.monthly_user_hash = r.monthly_user_hash
    LIMIT 1
) p ON true;
COMMENT ON VIEW flusher.uncounted IS
    'What is not in the kept counts of the months that are not closed: sessions above the line, '
    'changes below it, and what it takes to tell how these change how many people came.';
COMMENT ON COLUMN flusher.uncounted.month IS 'The month, as its first day.';
COMMENT ON COLUMN flusher.uncounted.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.uncounted.created_at IS 'When the session began.';
COMMENT ON COLUMN flusher.uncounted.visitor IS 'What it adds to the visitors'' sessions.';
COMMENT ON COLUMN flusher.uncounted.signed_in IS 'What it adds to the users'' sessions.';
COMMENT ON COLUMN flusher.uncounted.visitor_now IS
    'What it adds to the person''s tally of visits, to tell whether any is left.';
COMMENT ON COLUMN flusher.uncounted.signed_in_now IS
    'What it adds to the person''s tally of signed-in sessions.';
COMMENT ON COLUMN flusher.uncounted.is_change IS 'Whether it is a change below the line.';
COMMENT ON COLUMN flusher.uncounted.place IS 'The person''s row in flusher.people.';
COMMENT ON COLUMN flusher.uncounted.visitor_sessions IS 'As in flusher.people.';
COMMENT ON COLUMN flusher.uncounted.signed_in_sessions IS 'As in flusher.people.';
COMMENT ON COLUMN flusher.uncounted.came_as_visitor IS 'As in flusher.people.';
COMMENT ON COLUMN flusher.uncounted.came_signed_in IS 'As in flusher.people.';
COMMENT ON COLUMN flusher.uncounted.person IS
    'The monthly_user_hash of who may change how many people came; empty: it can''t, since they '
    'came that way before, and nothing of theirs was taken away.';

-- Also the second line.
CREATE OR REPLACE FUNCTION flusher.forget_counts(forgotten date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The row first: it is what whoever counts this month holds or waits for.
    UPDATE flusher.counted_months SET counted_until = '-infinity', tallied_until = '-infinity'
    WHERE month = forgotten;
    DELETE FROM flusher.monthly_counts WHERE month = forgotten;
    DELETE FROM flusher.daily_counts WHERE month = forgotten;
    DELETE FROM flusher.people WHERE month = forgotten;
END
$$;

-- Moves the line of a month up to where it is watched. Returns how many sessions that took in.
DROP FUNCTION flusher.count_month;
CREATE FUNCTION flusher.count_month(counted date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' AS $$
DECLARE
    line timestamptz;
    new_line timestamptz;
    taken_in bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'counting needs one snapshot: REPEATABLE READ';
    END IF;
    -- Fails when somebody else has counted or forgotten this month since the snapshot.
    SELECT counted_until, watched_until INTO STRICT line, new_line
    FROM flusher.counted_months WHERE month = counted FOR UPDATE;

    WITH person_or_rest AS (
        SELECT site, person,
            sum(visitor) AS visitor_sessions,
            sum(signed_in) AS signed_in_sessions,
            count(*) FILTER (WHERE NOT is_change AND visitor + signed_in > 0) AS taken_in,
            bool_or(came_as_visitor) AS came_as_visitor,
            bool_or(came_signed_in) AS came_signed_in,
            bool_or(is_change) AS has_changes,
            coalesce(max(u.visitor_sessions), 0) + sum(visitor_now) AS visitor_left,
            coalesce(max(u.signed_in_sessions), 0) + sum(signed_in_now) AS signed_in_left,
            coalesce(sum(visitor_now) FILTER (WHERE is_change), 0) AS visitor_change,
            coalesce(sum(signed_in_now) FILTER (WHERE is_change), 0) AS signed_in_change,
            max(place) AS place
        FROM flusher.uncounted u
        WHERE month = counted AND created_at < new_line
        GROUP BY site, person, '0'::xid  -- by hashing, as in monthly_impact
    ),
    after AS MATERIALIZED (
        SELECT *,
            visitor_left > 0 OR came_as_visitor AND NOT has_changes AS comes_as_visitor,
            signed_in_left > 0 OR came_signed_in AND NOT has_changes AS comes_signed_in
        FROM person_or_rest
    ),
    known AS (
        UPDATE flusher.people p
        SET came_as_visitor = comes_as_visitor, came_signed_in = comes_signed_in,
            visitor_sessions = p.visitor_sessions + visitor_change,
            signed_in_sessions = p.signed_in_sessions + signed_in_change
        FROM after a
        WHERE p.ctid = a.place AND a.person IS NOT NULL
    ),
    new AS (
        INSERT INTO flusher.people (month, site, monthly_user_hash, came_as_visitor, came_signed_in,
            visitor_sessions, signed_in_sessions)
        SELECT counted, site, person, comes_as_visitor, comes_signed_in, visitor_change,
            signed_in_change
        FROM after
        WHERE place IS NULL AND person IS NOT NULL
    ),
    stored AS (
        INSERT INTO flusher.monthly_counts AS c
        SELECT site, counted, sum(visitor_sessions), sum(signed_in_sessions),
            coalesce(sum((comes_as_visitor OR comes_signed_in)::integer
                - (came_as_visitor OR came_signed_in)::integer) FILTER (WHERE person IS NOT NULL), 0),
            coalesce(sum(comes_signed_in::integer - came_signed_in::integer)
                FILTER (WHERE person IS NOT NULL), 0),
            coalesce(sum(comes_as_visitor::integer - came_as_visitor::integer)
                FILTER (WHERE person IS NOT NULL), 0)
        FROM after
        GROUP BY site
        ON CONFLICT (site, month) DO UPDATE
        SET visitor_sessions = c.visitor_sessions + excluded.visitor_sessions,
            signed_in_sessions = c.signed_in_sessions + excluded.signed_in_sessions,
            unique_users = c.unique_users + excluded.unique_users,
            unique_signed_in_users = c.unique_signed_in_users + excluded.unique_signed_in_users,
            unique_visitors = c.unique_visitors + excluded.unique_visitors
    )
    SELECT coalesce(sum(after.taken_in), 0) INTO taken_in FROM after;

    INSERT INTO flusher.daily_counts AS c
    SELECT site, counted, day, sum(visitor), sum(signed_in)
    FROM (
        SELECT s.site, (s.created_at AT TIME ZONE k.timezone)::date AS day,
            (s.highest_role IS NULL)::integer AS visitor,
            (s.highest_role IS NOT NULL)::integer AS signed_in
        FROM public.sessions s CROSS JOIN flusher.calendar k
        WHERE s.month = counted AND s.created_at >= line AND s.created_at < new_line
        UNION ALL
        SELECT c.site, (c.created_at AT TIME ZONE k.timezone)::date,
            c.sessions * (NOT c.signed_in)::integer, c.sessions * c.signed_in::integer
        FROM flusher.changes c CROSS JOIN flusher.calendar k
        WHERE c.month = counted AND c.created_at < line
    ) moved
    GROUP BY site, day
    ON CONFLICT (site, month, day) DO UPDATE
    SET visitor_sessions = c.visitor_sessions + excluded.visitor_sessions,
        signed_in_sessions = c.signed_in_sessions + excluded.signed_in_sessions;

    DELETE FROM flusher.changes WHERE month = counted AND created_at < new_line;
    UPDATE flusher.counted_months SET counted_until = new_line WHERE month = counted;
    RETURN taken_in;
END
$$;
COMMENT ON FUNCTION flusher.count_month IS
    'Takes into the kept counts what began since the line, up to where the month is watched.';

-- Moves the second line up to the first. What is noted between the two stays, and is from here on a
-- change of the tally: so it must not be in it.
CREATE FUNCTION flusher.tally_month(tallied date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' AS $$
DECLARE
    line timestamptz;
    new_line timestamptz;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'counting needs one snapshot: REPEATABLE READ';
    END IF;
    SELECT tallied_until, counted_until INTO STRICT line, new_line
    FROM flusher.counted_months WHERE month = tallied FOR UPDATE;

    UPDATE flusher.people p
    SET visitor_sessions = p.visitor_sessions + n.visitor,
        signed_in_sessions = p.signed_in_sessions + n.signed_in
    FROM (
        SELECT site, monthly_user_hash, sum(visitor) AS visitor, sum(signed_in) AS signed_in
        FROM (
            SELECT site, monthly_user_hash, (highest_role IS NULL)::integer AS visitor,
                (highest_role IS NOT NULL)::integer AS signed_in
            FROM public.sessions
            WHERE month = tallied AND created_at >= line AND created_at < new_line
            UNION ALL
            SELECT site, monthly_user_hash, -sessions * (NOT signed_in)::integer,
                -sessions * signed_in::integer
            FROM flusher.changes
            WHERE month = tallied AND created_at >= line AND created_at < new_line
        ) moved
        GROUP BY site, monthly_user_hash
    ) n
    WHERE p.month = tallied AND p.site = n.site AND p.monthly_user_hash = n.monthly_user_hash;

    UPDATE flusher.counted_months SET tallied_until = new_line WHERE month = tallied;
END
$$;
COMMENT ON FUNCTION flusher.tally_month IS
    'Tallies how often each person came, of what is counted and was not tallied yet.';

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
    -- Months that are not closed: who is above the line, and what has changed below it.
    -- A row for each person who changes how many came, and for each site one of all the others.
    SELECT month, site, visitor_sessions, signed_in_sessions,
        (comes_as_visitor OR comes_signed_in)::integer - (came_as_visitor OR came_signed_in)::integer,
        comes_signed_in::integer - came_signed_in::integer,
        comes_as_visitor::integer - came_as_visitor::integer
    FROM (
        SELECT month, site, visitor_sessions, signed_in_sessions,
            person IS NOT NULL AND came_as_visitor AS came_as_visitor,
            person IS NOT NULL AND came_signed_in AS came_signed_in,
            person IS NOT NULL AND (visitor_left > 0 OR came_as_visitor AND NOT has_changes)
                AS comes_as_visitor,
            person IS NOT NULL AND (signed_in_left > 0 OR came_signed_in AND NOT has_changes)
                AS comes_signed_in
        FROM (
            SELECT month, site, person,
                sum(visitor) AS visitor_sessions,
                sum(signed_in) AS signed_in_sessions,
                bool_or(came_as_visitor) AS came_as_visitor,
                bool_or(came_signed_in) AS came_signed_in,
                bool_or(is_change) AS has_changes,
                coalesce(max(u.visitor_sessions), 0) + sum(visitor_now) AS visitor_left,
                coalesce(max(u.signed_in_sessions), 0) + sum(signed_in_now) AS signed_in_left
            FROM flusher.uncounted u
            -- By hashing: sorting all of the rows takes as long as all the rest, and what can''t be
            -- sorted by is not sorted.
            GROUP BY month, site, person, '0'::xid
        ) person_or_rest
    ) after
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

-- As before, but the time zone is asked for, not joined: of a table of one row, which nobody ever
-- analyses, the planner expects more than a thousand.
CREATE OR REPLACE VIEW daily_impact AS
SELECT
    day,
    site,
    sum(visitor_sessions + signed_in_sessions)::bigint AS sessions,
    sum(signed_in_sessions)::bigint AS signed_in_sessions,
    sum(visitor_sessions)::bigint AS visitor_sessions
FROM (
    SELECT k.day, k.site, k.visitor_sessions, k.signed_in_sessions
    FROM flusher.daily_counts k
    WHERE NOT EXISTS (
        SELECT FROM flusher.changed_sites c WHERE c.month = k.month AND c.site = k.site
    )
    UNION ALL
    SELECT n.day, n.site, n.visitor_sessions, n.signed_in_sessions
    FROM flusher.counted_months m
    CROSS JOIN LATERAL (
        SELECT (moved.created_at AT TIME ZONE (SELECT timezone FROM flusher.calendar))::date AS day,
            moved.site, sum(moved.visitor) AS visitor_sessions,
            sum(moved.signed_in) AS signed_in_sessions
        FROM (
            SELECT s.created_at, s.site, (s.highest_role IS NULL)::integer AS visitor,
                (s.highest_role IS NOT NULL)::integer AS signed_in
            FROM public.sessions s
            WHERE s.month = m.month AND s.created_at >= m.counted_until
                AND s.created_at < 'infinity'
            UNION ALL
            SELECT c.created_at, c.site, c.sessions * (NOT c.signed_in)::integer,
                c.sessions * c.signed_in::integer
            FROM flusher.changes c
            WHERE c.month = m.month AND c.created_at < m.counted_until
        ) moved
        GROUP BY 1, moved.site
    ) n
    WHERE m.counted_until < 'infinity'
    UNION ALL
    SELECT p.day, p.site, p.visitor_sessions, p.signed_in_sessions
    FROM (SELECT DISTINCT month FROM flusher.changed_sites) m
    CROSS JOIN LATERAL (
        SELECT (s.created_at AT TIME ZONE (SELECT timezone FROM flusher.calendar))::date AS day,
            s.site, count(*) FILTER (WHERE s.highest_role IS NULL) AS visitor_sessions,
            count(*) FILTER (WHERE s.highest_role IS NOT NULL) AS signed_in_sessions
        FROM public.sessions s
        WHERE s.month = m.month
            AND s.site IN (SELECT c.site FROM flusher.changed_sites c WHERE c.month = m.month)
        GROUP BY 1, s.site
    ) p
) counted
GROUP BY day, site
HAVING sum(visitor_sessions + signed_in_sessions) > 0;
