-- How many sessions and people there are, so that no report has to count them from the sessions.
--
-- Whoever changes sessions adds what that changes to the counts, in the same transaction
-- (flusher/store_counts.py). So the counts are exact at each commit: docs/decisions/0006-kept-counts.md.
--
--   people           how often each person came in an open month: shows who begins or ceases to count
--   count_changes    what each transaction changed: rows are only added, so no two writers wait here
--   monthly_counts,
--   daily_counts     the changes added up, moved here now and then (sql/fold_counts.sql)
--   recounts         where the counts no longer hold: the views count these from the sessions

CREATE TABLE flusher.people (
    month date NOT NULL,
    site text NOT NULL,
    monthly_user_hash uuid NOT NULL,
    visitor_sessions integer NOT NULL,
    signed_in_sessions integer NOT NULL,
    visitor_change integer NOT NULL,
    signed_in_change integer NOT NULL,
    PRIMARY KEY (monthly_user_hash, site, month)
)
PARTITION BY LIST (month);
COMMENT ON TABLE flusher.people IS
    'How often each person came in a month that is not closed. Dropped when it is.';
COMMENT ON COLUMN flusher.people.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.people.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.people.monthly_user_hash IS 'The person, as in sessions.';
COMMENT ON COLUMN flusher.people.visitor_sessions IS 'Sessions in which they did not sign in.';
COMMENT ON COLUMN flusher.people.signed_in_sessions IS 'Sessions in which they were or got signed in.';
COMMENT ON COLUMN flusher.people.visitor_change IS
    'By how much the last transaction changed visitor_sessions: tells it what was there before.';
COMMENT ON COLUMN flusher.people.signed_in_change IS 'The same of signed_in_sessions.';

CREATE TABLE flusher.monthly_counts (
    month date NOT NULL,
    site text NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    unique_users bigint NOT NULL,
    unique_signed_in_users bigint NOT NULL,
    unique_visitors bigint NOT NULL,
    PRIMARY KEY (month, site)
);
COMMENT ON TABLE flusher.monthly_counts IS 'What monthly_impact shows, but for count_changes.';
COMMENT ON COLUMN flusher.monthly_counts.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.monthly_counts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.monthly_counts.visitor_sessions IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.signed_in_sessions IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_users IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_signed_in_users IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_visitors IS 'As in monthly_impact.';

CREATE TABLE flusher.daily_counts (
    month date NOT NULL,
    day date NOT NULL,
    site text NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    PRIMARY KEY (site, day, month) -- the site first, for a report of one site
);
COMMENT ON TABLE flusher.daily_counts IS 'What daily_impact shows, but for count_changes.';
COMMENT ON COLUMN flusher.daily_counts.month IS
    'The month whose salt made the hash, which at a month''s end may not be the day''s.';
COMMENT ON COLUMN flusher.daily_counts.day IS 'The calendar day.';
COMMENT ON COLUMN flusher.daily_counts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.daily_counts.visitor_sessions IS 'As in daily_impact.';
COMMENT ON COLUMN flusher.daily_counts.signed_in_sessions IS 'As in daily_impact.';

CREATE TABLE flusher.count_changes (
    -- Not a sequence's number: logical replication carries rows, but no sequences.
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    month date NOT NULL,
    day date,
    site text NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    unique_users bigint NOT NULL DEFAULT 0,
    unique_signed_in_users bigint NOT NULL DEFAULT 0,
    unique_visitors bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE flusher.count_changes IS 'What transactions changed, not added up yet.';
COMMENT ON COLUMN flusher.count_changes.id IS 'The row: without a key it could not be replicated.';
COMMENT ON COLUMN flusher.count_changes.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.count_changes.day IS
    'The calendar day that changed, for daily_counts; empty: the month, for monthly_counts.';
COMMENT ON COLUMN flusher.count_changes.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.count_changes.visitor_sessions IS 'How many more, or fewer.';
COMMENT ON COLUMN flusher.count_changes.signed_in_sessions IS 'How many more, or fewer.';
COMMENT ON COLUMN flusher.count_changes.unique_users IS 'How many more, or fewer; of a month.';
COMMENT ON COLUMN flusher.count_changes.unique_signed_in_users IS
    'How many more, or fewer; of a month.';
COMMENT ON COLUMN flusher.count_changes.unique_visitors IS 'How many more, or fewer; of a month.';

CREATE TABLE flusher.recounts (
    month date NOT NULL,
    site text NOT NULL,
    wanted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (month, site)
);
COMMENT ON TABLE flusher.recounts IS
    'Where the counts no longer hold, and are to be made again from the sessions: a session came '
    'for a closed month, or another calendar counts.';
COMMENT ON COLUMN flusher.recounts.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.recounts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.recounts.wanted_at IS 'Since when.';

CREATE TABLE flusher.checks (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    held_at timestamptz NOT NULL
);
COMMENT ON TABLE flusher.checks IS 'When `python -m flusher check` last found nothing to mend.';
COMMENT ON COLUMN flusher.checks.only_row IS 'Keeps the table to one row.';
COMMENT ON COLUMN flusher.checks.held_at IS 'When, of all months.';

-- By how much the kept counts of a month fall short of its sessions, where they do. `sites`: of these,
-- or null for all. A row with a day is for daily_counts, one without for monthly_counts.
CREATE FUNCTION flusher.missing_counts(wanted date, sites text[]) RETURNS TABLE (
    day date,
    site text,
    visitor_sessions bigint,
    signed_in_sessions bigint,
    unique_users bigint,
    unique_signed_in_users bigint,
    unique_visitors bigint
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH came AS MATERIALIZED (
    SELECT
        (s.created_at AT TIME ZONE (SELECT c.timezone FROM flusher.calendar c))::date AS day,
        s.site,
        s.monthly_user_hash,
        count(*) - count(s.highest_role) AS as_visitor,
        count(s.highest_role) AS signed_in
    FROM public.sessions s
    WHERE s.month = wanted AND (sites IS NULL OR s.site = ANY (sites))
    GROUP BY 1, 2, 3
),
person AS (
    SELECT c.site, sum(c.as_visitor) AS as_visitor, sum(c.signed_in) AS signed_in
    FROM came c
    GROUP BY c.site, c.monthly_user_hash
)
SELECT
    k.day, k.site, sum(k.v)::bigint, sum(k.s)::bigint,
    sum(k.users)::bigint, sum(k.signed_in_users)::bigint, sum(k.visitors)::bigint
FROM (
    SELECT c.day, c.site, c.as_visitor AS v, c.signed_in AS s,
        0 AS users, 0 AS signed_in_users, 0 AS visitors
    FROM came c
    UNION ALL
    SELECT NULL, p.site, p.as_visitor, p.signed_in,
        1, (p.signed_in > 0)::integer, (p.as_visitor > 0)::integer
    FROM person p
    UNION ALL
    SELECT d.day, d.site, -d.visitor_sessions, -d.signed_in_sessions, 0, 0, 0
    FROM flusher.daily_counts d
    WHERE d.month = wanted
    UNION ALL
    SELECT NULL, m.site, -m.visitor_sessions, -m.signed_in_sessions,
        -m.unique_users, -m.unique_signed_in_users, -m.unique_visitors
    FROM flusher.monthly_counts m
    WHERE m.month = wanted
    UNION ALL
    SELECT n.day, n.site, -n.visitor_sessions, -n.signed_in_sessions,
        -n.unique_users, -n.unique_signed_in_users, -n.unique_visitors
    FROM flusher.count_changes n
    WHERE n.month = wanted
) k
WHERE sites IS NULL OR k.site = ANY (sites)
GROUP BY k.day, k.site
HAVING sum(k.v) <> 0 OR sum(k.s) <> 0 OR sum(k.users) <> 0 OR sum(k.signed_in_users) <> 0
    OR sum(k.visitors) <> 0
$$;
COMMENT ON FUNCTION flusher.missing_counts IS
    'By how much the kept counts of a month fall short of its sessions.';

-- The same of flusher.people, for a month that is open.
CREATE FUNCTION flusher.missing_people(wanted date, sites text[]) RETURNS TABLE (
    site text,
    monthly_user_hash uuid,
    visitor_sessions bigint,
    signed_in_sessions bigint
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT k.site, k.monthly_user_hash, sum(k.v)::bigint, sum(k.s)::bigint
FROM (
    SELECT s.site, s.monthly_user_hash,
        (s.highest_role IS NULL)::integer AS v, (s.highest_role IS NOT NULL)::integer AS s
    FROM public.sessions s
    WHERE s.month = wanted
    UNION ALL
    SELECT p.site, p.monthly_user_hash, -p.visitor_sessions, -p.signed_in_sessions
    FROM flusher.people p
    WHERE p.month = wanted
) k
WHERE sites IS NULL OR k.site = ANY (sites)
GROUP BY k.site, k.monthly_user_hash
HAVING sum(k.v) <> 0 OR sum(k.s) <> 0
$$;
COMMENT ON FUNCTION flusher.missing_people IS
    'By how much flusher.people falls short of the sessions of an open month.';
