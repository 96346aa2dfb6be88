-- Forgets upgrades that can't matter any more. $1: how long those that were decided are kept;
-- $2: how long one may wait for its session. Returns how many were given up.
WITH gone AS (
    DELETE FROM flusher.upgrades
    WHERE stored_at < now() - CASE WHEN outcome = 'waiting' THEN $2::interval ELSE $1::interval END
    RETURNING outcome
)
SELECT count(*) FILTER (WHERE outcome = 'waiting') FROM gone
