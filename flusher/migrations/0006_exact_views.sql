-- The views of the contract over the kept counts (0004), the same columns as before.

CREATE VIEW flusher.changed_sites AS
SELECT DISTINCT c.month, c.site
FROM flusher.changes c JOIN flusher.counted_months m USING (month)
WHERE m.counted_until = 'infinity';
COMMENT ON VIEW flusher.changed_sites IS
    'Sites that have changed in a closed month: they are counted from their sessions.';
COMMENT ON COLUMN flusher.changed_sites.month IS 'The month, as its first day.';
COMMENT ON COLUMN flusher.changed_sites.site IS 'The host name of the site.';

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
    SELECT m.month, d.*
    FROM flusher.counted_months m
    CROSS JOIN LATERAL (
        SELECT n.site, sum(n.visitor_sessions), sum(n.signed_in_sessions),
            sum((n.visitor_sessions + n.signed_in_sessions + b.sessions > 0)::integer
                - (b.sessions > 0)::integer),
            sum((n.signed_in_sessions + b.signed_in_sessions > 0)::integer
                - (b.signed_in_sessions > 0)::integer),
            sum((n.visitor_sessions + b.visitor_sessions > 0)::integer
                - (b.visitor_sessions > 0)::integer)
        FROM (
            SELECT site, monthly_user_hash, sum(visitor) AS visitor_sessions,
                sum(signed_in) AS signed_in_sessions
            FROM (
                SELECT s.site, s.monthly_user_hash, (s.highest_role IS NULL)::integer AS visitor,
                    (s.highest_role IS NOT NULL)::integer AS signed_in
                FROM public.sessions s
                -- Between two bounds the planner expects few, and takes the index.
                WHERE s.month = m.month AND s.created_at >= m.counted_until
                    AND s.created_at < 'infinity'
                UNION ALL
                SELECT c.site, c.monthly_user_hash, c.sessions * (NOT c.signed_in)::integer,
                    c.sessions * c.signed_in::integer
                FROM flusher.changes c
                WHERE c.month = m.month AND c.created_at < m.counted_until
            ) moved
            GROUP BY site, monthly_user_hash
        ) n
        -- One look-up each, by the key: a join would read all people (LIMIT keeps it from being one).
        LEFT JOIN LATERAL (
            SELECT p.visitor_sessions, p.signed_in_sessions
            FROM flusher.people p
            WHERE m.counted_until > '-infinity' AND p.month = m.month AND p.site = n.site
                AND p.monthly_user_hash = n.monthly_user_hash
            LIMIT 1
        ) p ON true
        CROSS JOIN LATERAL (
            SELECT coalesce(p.visitor_sessions, 0) AS visitor_sessions,
                coalesce(p.signed_in_sessions, 0) AS signed_in_sessions,
                coalesce(p.visitor_sessions + p.signed_in_sessions, 0) AS sessions
        ) b
        GROUP BY n.site
    ) d
    WHERE m.counted_until < 'infinity'
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
    CROSS JOIN flusher.calendar k
    CROSS JOIN LATERAL (
        SELECT (moved.created_at AT TIME ZONE k.timezone)::date AS day, moved.site,
            sum(moved.visitor) AS visitor_sessions, sum(moved.signed_in) AS signed_in_sessions
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
    CROSS JOIN flusher.calendar k
    CROSS JOIN LATERAL (
        SELECT (s.created_at AT TIME ZONE k.timezone)::date AS day, s.site,
            count(*) FILTER (WHERE s.highest_role IS NULL) AS visitor_sessions,
            count(*) FILTER (WHERE s.highest_role IS NOT NULL) AS signed_in_sessions
        FROM public.sessions s
        WHERE s.month = m.month
            AND s.site IN (SELECT c.site FROM flusher.changed_sites c WHERE c.month = m.month)
        GROUP BY 1, s.site
    ) p
) counted
GROUP BY day, site
HAVING sum(visitor_sessions + signed_in_sessions) > 0;

COMMENT ON VIEW monthly_impact IS
    'How many people each site reached in each calendar month; exact, and quick over years. People '
    'can''t be added up over months or sites: the same person counts once in each. Sessions can.';
COMMENT ON COLUMN monthly_impact.unique_users IS
    'How many different people opened the site, signed in or not. Somebody who came on their own as '
    'a visitor and once as a user can''t be told to be one, and counts as two.';
COMMENT ON COLUMN monthly_impact.unique_visitors IS
    'How many different visitors did not sign in. With unique_signed_in_users it comes to at least '
    'unique_users: whoever signed in after the month''s end, in a page opened within it, and came '
    'as a visitor in the month too, is one of both.';
COMMENT ON COLUMN monthly_impact.sessions IS
    'How often the site was opened: signed_in_sessions plus visitor_sessions. May be added up.';
COMMENT ON COLUMN daily_impact.sessions IS
    'How often the site was opened: signed_in_sessions plus visitor_sessions. May be added up.';
