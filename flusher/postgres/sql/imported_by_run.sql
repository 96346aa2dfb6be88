-- How many sessions a run has stored. $1: the run.
SELECT coalesce(sum(sessions), 0)::bigint FROM flusher.imports WHERE run = $1
