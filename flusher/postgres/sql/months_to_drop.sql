-- Closed months of which no session is to be kept, and dropped ones whose sessions are still here.
-- $1: how many finished months are kept. The clock is PostgreSQL's, and is not believed alone: one that
-- is ahead would have everything dropped. So they are counted from the newest session's month, where
-- that is earlier.
SELECT m.month
FROM flusher.months m
CROSS JOIN flusher.calendar c
WHERE CASE WHEN m.dropped_at IS NULL
    THEN m.closed_at IS NOT NULL AND m.month < least(
        date_trunc('month', now() AT TIME ZONE c.timezone),
        (SELECT max(month) FROM monthly_impact)
    ) - $1::integer * interval '1 month'
    ELSE to_regclass('flusher.sessions_' || to_char(m.month, 'YYYY_MM')) IS NOT NULL END
ORDER BY m.month
