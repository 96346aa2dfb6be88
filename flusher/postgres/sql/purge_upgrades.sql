-- Deletes upgrades that are no longer needed: decided ones after $1, and waiting ones after $2. Notes how many of
-- the latter there were, and returns their number.
WITH gone AS (
    DELETE FROM flusher.upgrades
    WHERE stored_at < now() - least($1::interval, $2::interval)
        AND stored_at < now() - CASE WHEN outcome = 'waiting' THEN $2::interval ELSE $1::interval END
    RETURNING outcome, month, site
),
kept AS (
    INSERT INTO flusher.upgrades_given_up AS g (month, site, upgrades)
    SELECT month, site, count(*) FROM gone WHERE outcome = 'waiting' GROUP BY month, site
    ON CONFLICT (month, site) DO UPDATE SET upgrades = g.upgrades + excluded.upgrades
)
SELECT count(*) FILTER (WHERE outcome = 'waiting') FROM gone
