-- Months that may be closed: over, for so long ($1), by PostgreSQL's clock and the calendar's zone; and closed ones that
-- have sessions with finer times than are kept ($2).
SELECT m.month FROM flusher.months m CROSS JOIN flusher.calendar c
WHERE (m.closed_at IS NULL OR m.dropped_at IS NULL AND CASE $2::text
        WHEN 'hour' THEN m.kept IS NULL WHEN 'day' THEN m.kept IS DISTINCT FROM 'day' ELSE false END)
    AND now() - $1::interval >= (m.month + interval '1 month') AT TIME ZONE c.timezone
ORDER BY m.month
