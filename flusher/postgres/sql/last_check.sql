-- When all counts were last found right, in seconds since the epoch; 0: never.
SELECT coalesce((SELECT extract(EPOCH FROM held_at) FROM flusher.checks), 0)::float8
