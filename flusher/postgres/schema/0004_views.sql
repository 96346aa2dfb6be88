-- What analysts read of the counts. Each is the sum of what was added up (flusher.*_counts) and of what
-- was not yet (flusher.count_changes); what is to be counted again comes from the sessions.

CREATE VIEW public.monthly_impact AS
SELECT k.month, k.site, k.v + k.s AS sessions, k.users AS unique_users, k.s AS signed_in_sessions,
    k.signed_in_users AS unique_signed_in_users, k.v AS visitor_sessions, k.visitors AS unique_visitors
FROM (
    SELECT month, site,
        coalesce(m.visitor_sessions, 0) + coalesce(c.v, 0) AS v,
        coalesce(m.signed_in_sessions, 0) + coalesce(c.s, 0) AS s,
        coalesce(m.unique_users, 0) + coalesce(c.users, 0) AS users,
        coalesce(m.unique_signed_in_users, 0) + coalesce(c.signed_in_users, 0) AS signed_in_users,
        coalesce(m.unique_visitors, 0) + coalesce(c.visitors, 0) AS visitors
    FROM flusher.monthly_counts m
    FULL JOIN (
        SELECT month, site, sum(visitor_sessions)::bigint AS v, sum(signed_in_sessions)::bigint AS s,
            sum(unique_users)::bigint AS users, sum(unique_signed_in_users)::bigint AS signed_in_users,
            sum(unique_visitors)::bigint AS visitors
        FROM flusher.count_changes WHERE day IS NULL GROUP BY month, site
    ) c USING (month, site)
) k
WHERE k.v + k.s <> 0
    AND NOT EXISTS (SELECT FROM flusher.recounts r WHERE r.month = k.month AND r.site = k.site)
UNION ALL
SELECT m.month, s.*
FROM (SELECT DISTINCT month FROM flusher.recounts) m
CROSS JOIN LATERAL (
    SELECT s.site, count(*), count(DISTINCT s.monthly_user_hash), count(s.highest_role),
        count(DISTINCT s.monthly_user_hash) FILTER (WHERE s.highest_role IS NOT NULL),
        count(*) - count(s.highest_role),
        count(DISTINCT s.monthly_user_hash) FILTER (WHERE s.highest_role IS NULL)
    FROM public.sessions s
    WHERE s.month = m.month
        AND s.site = ANY (ARRAY(SELECT r.site FROM flusher.recounts r WHERE r.month = m.month))
    GROUP BY s.site
    OFFSET 0 -- one month after the other: no plan may read them all, where nothing is to be recounted
) s;

COMMENT ON VIEW public.monthly_impact IS
    'How many people each site reached in each calendar month. People can''t be added up over '
    'months or sites: the same person counts once in each. Sessions can.';
COMMENT ON COLUMN public.monthly_impact.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN public.monthly_impact.site IS 'The host name of the site.';
COMMENT ON COLUMN public.monthly_impact.sessions IS 'How often the site was opened: signed_in_sessions plus visitor_sessions.';
COMMENT ON COLUMN public.monthly_impact.unique_users IS 'How many different people opened the site, signed in or not.';
COMMENT ON COLUMN public.monthly_impact.signed_in_sessions IS 'Sessions in which somebody was or got signed in.';
COMMENT ON COLUMN public.monthly_impact.unique_signed_in_users IS 'How many different users were signed in.';
COMMENT ON COLUMN public.monthly_impact.visitor_sessions IS 'Sessions in which nobody signed in.';
COMMENT ON COLUMN public.monthly_impact.unique_visitors IS
    'How many different visitors did not sign in. Somebody who came once without and once with '
    'signing in is one of these and one of unique_signed_in_users.';

CREATE VIEW public.daily_impact AS
SELECT
    k.day, k.site,
    sum(k.visitor_sessions + k.signed_in_sessions)::bigint AS sessions,
    sum(k.signed_in_sessions)::bigint AS signed_in_sessions,
    sum(k.visitor_sessions)::bigint AS visitor_sessions
FROM (
    SELECT c.day, c.site, c.visitor_sessions, c.signed_in_sessions FROM flusher.daily_counts c
    WHERE NOT EXISTS (SELECT FROM flusher.recounts r WHERE r.month = c.month AND r.site = c.site)
    UNION ALL
    SELECT c.day, c.site, c.visitor_sessions, c.signed_in_sessions FROM flusher.count_changes c
    WHERE c.day IS NOT NULL AND NOT EXISTS (SELECT FROM flusher.recounts r WHERE r.month = c.month AND r.site = c.site)
    UNION ALL
    SELECT s.*
    FROM (SELECT DISTINCT month FROM flusher.recounts) m
    CROSS JOIN LATERAL (
        SELECT (s.created_at AT TIME ZONE (SELECT timezone FROM flusher.calendar))::date, s.site,
            count(*) - count(s.highest_role), count(s.highest_role)
        FROM public.sessions s
        WHERE s.month = m.month
            AND s.site = ANY (ARRAY(SELECT r.site FROM flusher.recounts r WHERE r.month = m.month))
        GROUP BY 1, 2
        OFFSET 0 -- as above
    ) s
) k
GROUP BY k.day, k.site
HAVING sum(k.visitor_sessions + k.signed_in_sessions) <> 0;

COMMENT ON VIEW public.daily_impact IS
    'How often each site was opened on each calendar day of the service''s time zone. People are '
    'counted by month only: see monthly_impact.';
COMMENT ON COLUMN public.daily_impact.day IS 'The calendar day.';
COMMENT ON COLUMN public.daily_impact.site IS 'The host name of the site.';
COMMENT ON COLUMN public.daily_impact.sessions IS 'How often the site was opened: signed_in_sessions plus visitor_sessions.';
COMMENT ON COLUMN public.daily_impact.signed_in_sessions IS 'Sessions in which somebody was or got signed in.';
COMMENT ON COLUMN public.daily_impact.visitor_sessions IS 'Sessions in which nobody signed in.';
