-- Which months can be compared, and how far the counts may be off.

CREATE TABLE flusher.quality_counts (
    month date,
    site text, -- `(unknown)` if a dead letter can't be decoded
    -- given_up: sign-ins whose session never came, so they are in no count; dead_letter: in Redis, as of a minute ago;
    -- user, visitor: users who signed in, and hashes of visitors from which users signed in; pair: pairs of both.
    kind text CHECK (kind IN ('given_up', 'dead_letter', 'pair', 'user', 'visitor')),
    number bigint NOT NULL,
    PRIMARY KEY (month, site, kind)
);
COMMENT ON TABLE flusher.quality_counts IS 'What else is counted for each month and site: docs/who-counts.md explains the pairs.';

CREATE TABLE flusher.sign_in_digests (
    month date,
    digest uuid, -- keyed by the month's salt: contract/identity.py
    site text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('pair', 'user', 'visitor')),
    PRIMARY KEY (month, digest)
);
COMMENT ON TABLE flusher.sign_in_digests IS 'Pairs, users and visitors that were counted. Deleted when the month is closed.';

CREATE VIEW public.data_quality AS
WITH days AS ( -- with sessions
    SELECT site, date_trunc('month', day)::date AS month, count(*) AS days, sum(sessions) AS sessions, min(day) AS first, max(day) AS last
    FROM public.daily_impact GROUP BY 1, 2
), known AS (
    SELECT site, month, (month + interval '1 month')::date AS ends, sum(days) AS days, sum(sessions) AS sessions,
        min(min(first)) OVER (PARTITION BY site) AS began, max(max(last)) OVER (PARTITION BY site) AS ended,
        coalesce(sum(number) FILTER (WHERE kind = 'given_up'), 0)::bigint AS given_up,
        coalesce(sum(number) FILTER (WHERE kind = 'waiting'), 0)::bigint AS waiting,
        coalesce(sum(number) FILTER (WHERE kind = 'dead_letter'), 0)::bigint AS dead_letters,
        coalesce(sum(number) FILTER (WHERE kind = 'pair'), 0)::bigint AS pairs,
        sum(number) FILTER (WHERE kind = 'user') AS users, sum(number) FILTER (WHERE kind = 'visitor') AS visitors
    FROM (
        SELECT site, month, days, sessions, first, last, NULL AS kind, 0 AS number FROM days
        UNION ALL -- months without sessions, between the first and the last
        SELECT site, generate_series(min(month)::timestamp, max(month), interval '1 month')::date, 0, 0, NULL, NULL, NULL, 0
        FROM days GROUP BY site
        UNION ALL SELECT site, month, 0, 0, NULL, NULL, kind, number FROM flusher.quality_counts
        UNION ALL SELECT site, month, 0, 0, NULL, NULL, 'waiting', 1 FROM flusher.upgrades WHERE outcome = 'waiting'
    ) everything
    GROUP BY site, month
    HAVING bool_or(coalesce(kind, '') NOT IN ('pair', 'user', 'visitor')) -- a sign-in may be of the month after its session's
), judged AS (
    SELECT k.*, timezone, today, closed_at IS NOT NULL AS closed, coalesce(replaced, 0) AS replaced, replaced_on,
        CASE WHEN began > month + 1 AND began < ends THEN began END AS began_on,
        CASE WHEN ended < today - 7 AND ended >= month AND ended < ends - 2 THEN ended END AS ended_on,
        greatest(0, least(ends, CASE WHEN ended < today - 7 THEN ended + 1 ELSE greatest(ended + 1, today) END)
            - greatest(began, month) - days)::bigint AS days_without_sessions
    FROM known k
    CROSS JOIN (SELECT timezone, (now() AT TIME ZONE timezone)::date AS today FROM flusher.state) s
    LEFT JOIN (
        SELECT month, count(*) AS replaced, max((made_at AT TIME ZONE timezone)::date) AS replaced_on
        FROM flusher.salts, flusher.state WHERE outcome IN ('lost', 'replaced') GROUP BY month
    ) r USING (month)
    LEFT JOIN flusher.months m USING (month)
)
SELECT month, site,
    ends <= today AND days > 0 AND coalesce(began_on, ended_on, replaced_on) IS NULL
        AND (days_without_sessions = 0 OR sessions < 10 * days) AS comparable,
    began_on, ended_on, days_without_sessions, replaced AS salts_replaced, replaced_on AS salt_replaced_on,
    given_up AS sign_ins_given_up, waiting AS sign_ins_waiting, dead_letters, closed, timezone,
    pairs AS sign_in_pairs, CASE WHEN pairs >= 20 THEN pairs::float8 / nullif(users, 0) END AS visitors_per_user,
    CASE WHEN pairs >= 20 THEN pairs::float8 / nullif(visitors, 0) END AS users_per_visitor
FROM judged;
COMMENT ON VIEW public.data_quality IS
    'Why a month of a site can''t be compared with another, and how far its counts may be off. '
    'Also has the months without sessions between a site''s first and last month.';
COMMENT ON COLUMN public.data_quality.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN public.data_quality.site IS 'The host name of the site; (unknown): dead letters that can''t be decoded.';
COMMENT ON COLUMN public.data_quality.comparable IS
    'Two months of a site can be compared if this is true for both. False: the month is not over, counting began '
    'or ended within it, the salt was replaced, or a day has no session though days have ten or more.';
COMMENT ON COLUMN public.data_quality.began_on IS 'When the site''s counting began, if within this month and after its second day.';
COMMENT ON COLUMN public.data_quality.ended_on IS
    'The site''s last day with a session, if in this month, a week ago or more, and two days or more before the month''s last.';
COMMENT ON COLUMN public.data_quality.days_without_sessions IS 'Days without any session, after counting began and before it ended.';
COMMENT ON COLUMN public.data_quality.salts_replaced IS
    'How often the month''s salt was lost or replaced. People who came before and after that are counted twice.';
COMMENT ON COLUMN public.data_quality.salt_replaced_on IS 'The day when that happened last.';
COMMENT ON COLUMN public.data_quality.sign_ins_given_up IS
    'Sign-ins whose session never came: they are in no count, and their sessions may be missing.';
COMMENT ON COLUMN public.data_quality.sign_ins_waiting IS 'Sign-ins that wait for their session: counts may still change.';
COMMENT ON COLUMN public.data_quality.dead_letters IS
    'Sessions and sign-ins that could not be stored: in no count until an operator replays them. As of a minute ago.';
COMMENT ON COLUMN public.data_quality.closed IS 'Whether the month is over, and no more of its sessions are expected.';
COMMENT ON COLUMN public.data_quality.timezone IS 'The time zone of these months and days.';
COMMENT ON COLUMN public.data_quality.sign_in_pairs IS
    'The next two columns are computed from so many pairs of a user and a visitor''s hash. Repeated sign-ins are one pair.';
COMMENT ON COLUMN public.data_quality.visitors_per_user IS
    'Can''t be added up: as how many visitors a signed-in person was counted, on average and at least. Empty below 20 pairs.';
COMMENT ON COLUMN public.data_quality.users_per_visitor IS
    'Can''t be added up: how many signed-in people were counted as one visitor, on average. Empty below 20 pairs.';
