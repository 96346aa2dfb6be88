-- The months whose sessions are here, and what there is to count in each. $1: so many sessions above
-- the line are enough to know.
SELECT
    m.month,
    m.counted_until = 'infinity' AS closed,
    m.watched_until > m.counted_until AS watched_further,
    CASE WHEN m.counted_until < 'infinity' THEN (
        SELECT count(*) FROM (
            SELECT FROM sessions s
            WHERE s.month = m.month AND s.created_at >= m.counted_until AND s.created_at < 'infinity'
            LIMIT $1
        ) uncounted
    ) ELSE 0 END AS uncounted,
    EXISTS (SELECT FROM flusher.changes c WHERE c.month = m.month) AS changed
FROM flusher.counted_months m
WHERE m.dropped_at IS NULL
ORDER BY m.month
