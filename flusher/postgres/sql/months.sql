SELECT month, dropped_at IS NOT NULL AS is_dropped FROM flusher.months ORDER BY month
