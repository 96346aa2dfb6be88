-- The months of which only the counts are left.
SELECT month FROM flusher.months WHERE dropped_at IS NOT NULL
