-- The number of sessions that a run ($1) has stored.
SELECT coalesce(sum(sessions), 0)::bigint FROM flusher.imports WHERE run = $1
