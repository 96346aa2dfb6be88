-- Closed months older than the months that are kept ($1: how many finished ones), and dropped ones that still have their
-- partition. They are counted from the newest session's month, if that is earlier than PostgreSQL's clock says: else a
-- clock that is ahead would have everything dropped.
SELECT m.month FROM flusher.months m CROSS JOIN flusher.calendar c
WHERE CASE WHEN m.dropped_at IS NULL
    THEN m.closed_at IS NOT NULL AND m.month < least(
        date_trunc('month', now() AT TIME ZONE c.timezone),
        (SELECT max(month) FROM monthly_impact)
    ) - $1::integer * interval '1 month'
    ELSE to_regclass('flusher.sessions_' || to_char(m.month, 'YYYY_MM')) IS NOT NULL END
ORDER BY m.month
