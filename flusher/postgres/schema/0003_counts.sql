-- How many sessions and people there are, so that no report has to count them from the sessions.
--
-- Whoever changes sessions adds what that changes to the counts, in the same transaction: how
-- `unique_visitors` comes about is sql/count_changes.sql, and docs/decisions/0006-kept-counts.md says
-- why it is exact.

-- Integers, whose sums are bigint: those of bigint are numeric, and the overview takes twice the time.
CREATE TABLE flusher.counts (
    whole_month boolean, -- or a day
    site text,
    month date, -- whose salt made the hashes: at a month's end that may not be the day's
    day date, -- of a whole month, its first
    visitor_sessions integer NOT NULL,
    signed_in_sessions integer NOT NULL,
    unique_users integer NOT NULL, -- people are counted by month alone: 0 of a day
    unique_signed_in_users integer NOT NULL,
    unique_visitors integer NOT NULL,
    PRIMARY KEY (whole_month, site, month, day) -- in the order in which reports ask
);
COMMENT ON TABLE flusher.counts IS 'How many sessions and people each site had in each month, and sessions on each day.';

-- Rows are only added, so that no two writers wait for each other, and moved to the counts now and then
-- (sql/fold_counts.sql).
CREATE TABLE flusher.count_changes (
    LIKE flusher.counts,
    id uuid PRIMARY KEY DEFAULT gen_random_uuid() -- what has no key can't be replicated, nor can a sequence
);
COMMENT ON TABLE flusher.count_changes IS 'What transactions changed in the counts, not added up yet.';

CREATE VIEW flusher.all_counts AS
SELECT * FROM flusher.counts
UNION ALL
SELECT whole_month, site, month, day, visitor_sessions, signed_in_sessions, unique_users, unique_signed_in_users, unique_visitors
FROM flusher.count_changes;
COMMENT ON VIEW flusher.all_counts IS 'What was added up and what was not: the sum is exact at each commit.';

CREATE TABLE flusher.checks (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    held_at timestamptz NOT NULL
);
COMMENT ON TABLE flusher.checks IS 'When `python -m flusher check` last found nothing to mend.';

-- By how much the kept counts of a month fall short of its sessions, where they do: what has to be added.
CREATE FUNCTION flusher.missing_counts(wanted date) RETURNS SETOF flusher.counts
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH came AS MATERIALIZED (
    SELECT s.site, s.monthly_user_hash, (s.created_at AT TIME ZONE (SELECT c.timezone FROM flusher.calendar c))::date AS day,
        count(*) - count(s.highest_role) AS v, count(s.highest_role) AS s
    FROM public.sessions s WHERE s.month = wanted GROUP BY 1, 2, 3
)
SELECT k.whole_month, k.site, wanted, k.day, sum(k.v)::integer, sum(k.s)::integer,
    sum(k.users)::integer, sum(k.signed_in_users)::integer, sum(k.visitors)::integer
FROM (
    SELECT false, c.site, c.day, c.v, c.s, 0, 0, 0 FROM came c
    UNION ALL
    SELECT true, c.site, wanted, sum(c.v), sum(c.s), 1, (sum(c.s) > 0)::integer, (sum(c.v) > 0)::integer
    FROM came c GROUP BY c.site, c.monthly_user_hash
    UNION ALL
    SELECT a.whole_month, a.site, a.day, -a.visitor_sessions, -a.signed_in_sessions,
        -a.unique_users, -a.unique_signed_in_users, -a.unique_visitors
    FROM flusher.all_counts a WHERE a.month = wanted
) k (whole_month, site, day, v, s, users, signed_in_users, visitors)
GROUP BY k.whole_month, k.site, k.day
HAVING (sum(k.v), sum(k.s), sum(k.users), sum(k.signed_in_users), sum(k.visitors)) <> (0, 0, 0, 0, 0)
$$;
