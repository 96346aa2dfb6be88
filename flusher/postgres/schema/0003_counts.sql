-- The numbers of sessions and people, so that no report has to count sessions: docs/decisions/0006-kept-counts.md.
-- The columns are integers because the sum of integers is bigint. Sums of bigint are numeric, and twice as slow.

CREATE TABLE flusher.counts (
    whole_month boolean, -- or a day
    site text,
    month date, -- whose salt made the hashes: at a month's end it may differ from the day's month
    day date, -- for a whole month: its first day
    visitor_sessions integer NOT NULL,
    signed_in_sessions integer NOT NULL,
    unique_users integer NOT NULL, -- 0 for a day, since people are only counted by month
    unique_signed_in_users integer NOT NULL,
    unique_visitors integer NOT NULL,
    PRIMARY KEY (whole_month, site, month, day) -- in the order in which reports query it
);
COMMENT ON TABLE flusher.counts IS 'How many sessions and people each site had in each month, and sessions on each day.';

-- Writers only insert rows here, so that they never wait for each other. sql/fold_counts.sql moves them to `counts`.
-- The table inherits from `counts`: a query of `counts` also reads it, so the sum is exact at each commit.
CREATE TABLE flusher.count_changes (
    id uuid DEFAULT gen_random_uuid(), -- logical replication needs a key, and does not copy sequences
    PRIMARY KEY (whole_month, site, id) -- so that a report of one site does not read the others' changes
) INHERITS (flusher.counts);
COMMENT ON TABLE flusher.count_changes IS 'Changes of the counts that are not yet added up.';

-- What has to be added to the kept counts of a month so that they are those of its sessions.
CREATE FUNCTION flusher.missing_counts(wanted date) RETURNS SETOF flusher.counts
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH came AS MATERIALIZED (
    SELECT s.site, s.monthly_user_hash, (s.created_at AT TIME ZONE (SELECT timezone FROM flusher.state))::date AS day,
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
    FROM flusher.counts a WHERE a.month = wanted
) k (whole_month, site, day, v, s, users, signed_in_users, visitors)
GROUP BY k.whole_month, k.site, k.day
HAVING (sum(k.v), sum(k.s), sum(k.users), sum(k.signed_in_users), sum(k.visitors)) <> (0, 0, 0, 0, 0)
$$;
