-- Sets whose calendar counts. $1: the time zone. Where that is another one, all days are to be counted
-- again, of the months whose sessions are here.
WITH changed AS (
    UPDATE flusher.calendar SET timezone = $1 WHERE timezone <> $1 RETURNING timezone
)
INSERT INTO flusher.recounts (month, site)
SELECT k.month, k.site
FROM (
    SELECT month, site FROM flusher.monthly_counts
    UNION
    SELECT month, site FROM flusher.count_changes
) k
JOIN flusher.months m ON m.month = k.month AND m.dropped_at IS NULL
CROSS JOIN changed
ON CONFLICT (month, site) DO NOTHING
