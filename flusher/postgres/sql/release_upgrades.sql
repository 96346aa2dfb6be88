-- The upgrades of sessions that were replaced wait again, to be applied to what is there now. One
-- that the session still shows stays as it is.
-- $1: sessions. Returns the upgrades, with whom they had upgraded.
WITH held AS MATERIALIZED (
    SELECT u.id, u.applied_to, u.replaced_hash
    FROM flusher.upgrades u
    WHERE coalesce(u.session_id, u.applied_to) = ANY ($1::uuid[]) AND u.outcome <> 'waiting'
        AND (
            SELECT s.id FROM sessions s
            WHERE s.id = u.applied_to AND s.upgraded_at = u.upgraded_at
            LIMIT 1
        ) IS NULL
)
UPDATE flusher.upgrades u
SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
FROM held
WHERE u.id = ANY (ARRAY[held.id])
RETURNING u.month, u.site, u.visitor_hash, u.upgraded_at, held.applied_to, held.replaced_hash
