-- The upgrades of sessions that were replaced wait again, to be applied to what is there now. One
-- that the session still shows stays as it is.
-- $1: sessions. Returns the upgrades.
UPDATE flusher.upgrades u
SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
WHERE u.id IN (
        SELECT id FROM flusher.upgrades WHERE session_id = ANY ($1::uuid[])
        UNION ALL
        SELECT id FROM flusher.upgrades WHERE session_id IS NULL AND applied_to = ANY ($1::uuid[])
    )
    AND u.outcome <> 'waiting'
    AND NOT EXISTS (
        SELECT FROM sessions s WHERE s.id = u.applied_to AND s.upgraded_at = u.upgraded_at
    )
RETURNING u.id
