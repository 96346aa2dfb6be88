-- An upgrade of a session that is upgraded, or was signed in from the start, changes nothing.
-- $1: sessions; $2: the earliest month to look in. Returns the upgrades, and whether each is of another
-- user than the session, as far as the same month's hashes tell. Only by key:
-- docs/decisions/0006-kept-counts.md.
UPDATE flusher.upgrades u
SET outcome = 'superseded'
FROM sessions s
WHERE u.session_id = ANY ($1::uuid[]) AND u.outcome = 'waiting'
    AND s.id = ANY (ARRAY[u.session_id]) AND s.site = u.site
    AND s.month <= u.month AND s.month >= $2::date
    AND s.highest_role IS NOT NULL
RETURNING u.id, u.month = s.month AND u.user_hash <> s.monthly_user_hash AS is_of_another
