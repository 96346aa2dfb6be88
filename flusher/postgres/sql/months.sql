-- Each month, and whether only its counts are left.
SELECT month, dropped_at IS NOT NULL AS is_dropped FROM flusher.months ORDER BY month
