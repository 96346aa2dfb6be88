-- The months whose sessions are here. $1: of these one, or null for all.
SELECT month FROM flusher.months
WHERE dropped_at IS NULL AND ($1::date IS NULL OR month = $1::date)
ORDER BY month
