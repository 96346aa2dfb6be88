-- The months whose sessions are here, and whether each is open. $1: of these one, or null for all.
SELECT month, closed_at IS NULL AS is_open
FROM flusher.months
WHERE dropped_at IS NULL AND ($1::date IS NULL OR month = $1::date)
ORDER BY month
