-- How many sessions and people there are, so that no report has to count them from the sessions.
--
-- Whoever changes sessions adds what that changes to the counts, in the same transaction: how
-- `unique_visitors` comes about is sql/count_changes.sql, and docs/decisions/0006-kept-counts.md says
-- why it is exact.

-- What each transaction changed. Rows are only added, so that no two writers wait for each other, and
-- moved to the two tables below now and then (sql/fold_counts.sql).
CREATE TABLE flusher.count_changes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), -- what has no key can't be replicated, nor can a sequence
    month date NOT NULL,
    day date, -- a day's sessions, for daily_counts; null: the month''s, for monthly_counts
    site text NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    unique_users bigint NOT NULL DEFAULT 0,
    unique_signed_in_users bigint NOT NULL DEFAULT 0,
    unique_visitors bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE flusher.count_changes IS 'What transactions changed in the counts, not added up yet.';

CREATE TABLE flusher.monthly_counts (
    month date,
    site text,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    unique_users bigint NOT NULL,
    unique_signed_in_users bigint NOT NULL,
    unique_visitors bigint NOT NULL,
    PRIMARY KEY (site, month) -- the site first, for a report of one site
);
COMMENT ON TABLE flusher.monthly_counts IS 'What monthly_impact shows, but for count_changes.';

CREATE TABLE flusher.daily_counts (
    month date, -- whose salt made the hash: at a month's end that may not be the day''s
    day date,
    site text,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    PRIMARY KEY (site, day, month)
);
COMMENT ON TABLE flusher.daily_counts IS 'What daily_impact shows, but for count_changes.';

CREATE TABLE flusher.checks (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    held_at timestamptz NOT NULL
);
COMMENT ON TABLE flusher.checks IS 'When `python -m flusher check` last found nothing to mend.';

-- By how much the kept counts of a month fall short of its sessions, where they do. A row with a day
-- is for daily_counts, one without for monthly_counts.
CREATE FUNCTION flusher.missing_counts(wanted date) RETURNS TABLE (
    day date, site text, visitor_sessions bigint, signed_in_sessions bigint,
    unique_users bigint, unique_signed_in_users bigint, unique_visitors bigint
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH came AS MATERIALIZED (
    SELECT (s.created_at AT TIME ZONE (SELECT c.timezone FROM flusher.calendar c))::date AS day, s.site,
        s.monthly_user_hash, count(*) - count(s.highest_role) AS v, count(s.highest_role) AS s
    FROM public.sessions s WHERE s.month = wanted GROUP BY 1, 2, 3
),
person AS (
    SELECT c.site, sum(c.v) AS v, sum(c.s) AS s FROM came c GROUP BY c.site, c.monthly_user_hash
)
SELECT k.day, k.site, sum(k.v)::bigint, sum(k.s)::bigint,
    sum(k.users)::bigint, sum(k.signed_in_users)::bigint, sum(k.visitors)::bigint
FROM (
    SELECT c.day, c.site, c.v, c.s, 0 AS users, 0 AS signed_in_users, 0 AS visitors FROM came c
    UNION ALL
    SELECT NULL, p.site, p.v, p.s, 1, (p.s > 0)::integer, (p.v > 0)::integer FROM person p
    UNION ALL
    SELECT d.day, d.site, -d.visitor_sessions, -d.signed_in_sessions, 0, 0, 0
    FROM flusher.daily_counts d WHERE d.month = wanted
    UNION ALL
    SELECT NULL, m.site, -m.visitor_sessions, -m.signed_in_sessions,
        -m.unique_users, -m.unique_signed_in_users, -m.unique_visitors
    FROM flusher.monthly_counts m WHERE m.month = wanted
    UNION ALL
    SELECT n.day, n.site, -n.visitor_sessions, -n.signed_in_sessions,
        -n.unique_users, -n.unique_signed_in_users, -n.unique_visitors
    FROM flusher.count_changes n WHERE n.month = wanted
) k
GROUP BY k.day, k.site
HAVING (sum(k.v), sum(k.s), sum(k.users), sum(k.signed_in_users), sum(k.visitors)) <> (0, 0, 0, 0, 0)
$$;
COMMENT ON FUNCTION flusher.missing_counts IS 'By how much the kept counts of a month fall short.';
