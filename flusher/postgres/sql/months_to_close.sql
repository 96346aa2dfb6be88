-- Months that may be closed, as far as the tables say, or whose people are still here though they are.
-- $1: how long after its end.
SELECT month, closed_at IS NULL AS is_open
FROM flusher.months
WHERE CASE WHEN closed_at IS NULL
    THEN flusher.may_be_closed(month, $1::interval)
    ELSE to_regclass('flusher.people_' || to_char(month, 'YYYY_MM')) IS NOT NULL END
ORDER BY month
