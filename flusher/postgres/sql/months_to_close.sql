-- Months that may be closed: over, for so long ($1), by PostgreSQL's clock and the calendar's zone.
SELECT m.month FROM flusher.months m CROSS JOIN flusher.calendar c
WHERE m.closed_at IS NULL AND now() - $1::interval >= (m.month + interval '1 month') AT TIME ZONE c.timezone
ORDER BY m.month
