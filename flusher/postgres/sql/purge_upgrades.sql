-- Deletes decided upgrades after $1, and waiting ones after $2, which is longer. Counts and returns the number of the latter.
WITH gone AS (
    DELETE FROM flusher.upgrades
    WHERE stored_at < now() - $1::interval AND (outcome <> 'waiting' OR stored_at < now() - $2::interval)
    RETURNING outcome, month, site
),
kept AS (
    INSERT INTO flusher.quality_counts AS q (month, site, kind, number)
    SELECT month, site, 'given_up', count(*) FROM gone WHERE outcome = 'waiting' GROUP BY month, site
    ON CONFLICT (month, site, kind) DO UPDATE SET number = q.number + excluded.number
)
SELECT count(*) FILTER (WHERE outcome = 'waiting') FROM gone
