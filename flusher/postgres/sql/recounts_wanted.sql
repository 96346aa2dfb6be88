-- Months whose counts are to be made again, and whether each is open.
SELECT DISTINCT r.month, m.closed_at IS NULL AS is_open
FROM flusher.recounts r
JOIN flusher.months m ON m.month = r.month AND m.dropped_at IS NULL
ORDER BY r.month
