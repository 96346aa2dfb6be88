-- Months to be closed: over, for so long ($1), by PostgreSQL's clock and the calendar's zone; and closed ones that have
-- sessions with finer times than are kept ($2).
SELECT m.month FROM flusher.months m CROSS JOIN flusher.calendar c
WHERE now() - $1::interval >= (m.month + interval '1 month') AT TIME ZONE c.timezone
    AND (m.closed_at IS NULL OR m.dropped_at IS NULL AND $2::text <> 'instant' AND coalesce(m.kept, '') NOT IN ($2, 'day'))
ORDER BY m.month
