-- Adds up what transactions have changed. Whoever looks sees a change either here or there.
WITH gone AS (DELETE FROM flusher.count_changes RETURNING *),
folded AS (
    INSERT INTO flusher.monthly_counts AS m
    SELECT month, site, sum(visitor_sessions), sum(signed_in_sessions), sum(unique_users),
        sum(unique_signed_in_users), sum(unique_visitors)
    FROM gone WHERE day IS NULL GROUP BY month, site
    ON CONFLICT (month, site) DO UPDATE
    SET visitor_sessions = m.visitor_sessions + excluded.visitor_sessions,
        signed_in_sessions = m.signed_in_sessions + excluded.signed_in_sessions,
        unique_users = m.unique_users + excluded.unique_users,
        unique_signed_in_users = m.unique_signed_in_users + excluded.unique_signed_in_users,
        unique_visitors = m.unique_visitors + excluded.unique_visitors
)
INSERT INTO flusher.daily_counts AS d
SELECT month, day, site, sum(visitor_sessions), sum(signed_in_sessions)
FROM gone WHERE day IS NOT NULL GROUP BY month, day, site
ON CONFLICT (site, day, month) DO UPDATE
SET visitor_sessions = d.visitor_sessions + excluded.visitor_sessions,
    signed_in_sessions = d.signed_in_sessions + excluded.signed_in_sessions
