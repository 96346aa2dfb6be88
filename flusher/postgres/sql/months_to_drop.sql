-- Closed months older than the finished months that are kept ($1 of them), and dropped ones that still have their partition.
-- Counted from the newest session's month if PostgreSQL's clock is later: a clock that is ahead must not drop everything.
SELECT m.month FROM flusher.months m CROSS JOIN flusher.state s
WHERE CASE WHEN m.dropped_at IS NOT NULL THEN to_regclass('flusher.sessions_' || to_char(m.month, 'YYYY_MM')) IS NOT NULL
    ELSE m.closed_at IS NOT NULL AND m.month + $1::integer * interval '1 month'
        < least(date_trunc('month', now() AT TIME ZONE s.timezone), (SELECT max(month) FROM monthly_impact)) END
ORDER BY m.month
