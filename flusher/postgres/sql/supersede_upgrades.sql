-- An upgrade of a session that is upgraded, or was signed in from the start, changes nothing.
-- $1: sessions; $2: the earliest month to look in. Returns the upgrades.
UPDATE flusher.upgrades u
SET outcome = 'superseded'
WHERE coalesce(u.session_id, u.applied_to) = ANY ($1::uuid[]) AND u.outcome = 'waiting' AND (
    SELECT bool_or(s.highest_role IS NOT NULL)
    FROM (SELECT * FROM sessions WHERE id = u.session_id AND month <= u.month AND month >= $2::date OFFSET 0) s
    WHERE s.site = u.site
)
RETURNING u.id
