-- An upgrade of a session that is upgraded, or was signed in from the start, changes nothing.
-- $1: sessions; $2: the earliest month to look in. Returns the upgrades, and whether each is of another user than
-- the session, as far as the same month's hashes tell.
WITH decided AS MATERIALIZED (
    SELECT u.id, bool_or(u.month = s.month AND u.user_hash <> s.monthly_user_hash) AS is_of_another
    FROM flusher.upgrades u
    CROSS JOIN LATERAL (SELECT * FROM sessions WHERE id = u.session_id AND month <= u.month AND month >= $2::date OFFSET 0) s
    WHERE coalesce(u.session_id, u.applied_to) = ANY ($1::uuid[]) AND u.outcome = 'waiting'
        AND s.site = u.site AND s.highest_role IS NOT NULL
    GROUP BY u.id
)
UPDATE flusher.upgrades u SET outcome = 'superseded'
FROM decided d WHERE u.id = ANY (ARRAY[d.id]) RETURNING u.id, d.is_of_another
