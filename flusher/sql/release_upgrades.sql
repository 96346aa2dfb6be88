-- The upgrades of sessions that were replaced wait again, to be applied to what is there now.
-- $1: sessions. Returns the upgrades.
UPDATE flusher.upgrades
SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
WHERE (applied_to = ANY ($1::uuid[]) OR session_id = ANY ($1::uuid[])) AND outcome <> 'waiting'
RETURNING id
