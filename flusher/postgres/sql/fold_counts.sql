-- Moves the changes to the counts: in one statement, so that a reader sees each once; sorted, so that months are neighbours.
WITH gone AS (DELETE FROM flusher.count_changes RETURNING *)
INSERT INTO flusher.counts AS c
SELECT whole_month, site, month, day, sum(visitor_sessions), sum(signed_in_sessions), sum(unique_users),
    sum(unique_signed_in_users), sum(unique_visitors)
FROM gone GROUP BY whole_month, site, month, day ORDER BY whole_month, month, site, day
ON CONFLICT (whole_month, site, month, day) DO UPDATE
SET visitor_sessions = c.visitor_sessions + excluded.visitor_sessions,
    signed_in_sessions = c.signed_in_sessions + excluded.signed_in_sessions,
    unique_users = c.unique_users + excluded.unique_users,
    unique_signed_in_users = c.unique_signed_in_users + excluded.unique_signed_in_users,
    unique_visitors = c.unique_visitors + excluded.unique_visitors
