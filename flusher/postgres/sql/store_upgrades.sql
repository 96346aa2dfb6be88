-- Stores upgrades that are new: an id that is known is a repeat. The only one that is known of an
-- anonymous session is applied to it at once, as `apply_upgrades` would; the others wait for that.
-- After `Lock.UPGRADES`: nobody else stores any.
-- $1 to $8: the columns; $9: whether each is its session's only one here; $10: the earliest month to look in.
-- Returns those that are new, with the month, start and hash of the session that each upgraded.
WITH new AS MATERIALIZED (
    SELECT i.*, s.month AS session_month, s.created_at, s.monthly_user_hash AS replaced_hash
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::date[], $5::text[], $6::uuid[], $7::text[], $8::timestamptz[], $9::boolean[]
    ) AS i (id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at, is_only_one)
    LEFT JOIN LATERAL (
        SELECT f.* FROM (
            SELECT * FROM sessions WHERE id = i.session_id AND month <= i.month AND month >= $10::date OFFSET 0
        ) f
        WHERE f.site = i.site AND f.highest_role IS NULL AND i.is_only_one
            AND (SELECT u.id FROM flusher.upgrades u WHERE coalesce(u.session_id, u.applied_to) = i.session_id LIMIT 1) IS NULL
        ORDER BY f.month LIMIT 1
    ) s ON true
    -- A scalar, since what is asked with EXISTS may be answered by reading the whole table.
    WHERE (SELECT u.id FROM flusher.upgrades u WHERE u.id = i.id) IS NULL
),
changed AS (
    UPDATE sessions s
    SET highest_role = n.highest_role, upgraded_at = n.upgraded_at,
        monthly_user_hash = CASE WHEN n.month = s.month THEN n.user_hash ELSE s.monthly_user_hash END
    FROM new n
    WHERE n.session_month IS NOT NULL AND s.id = ANY (ARRAY[n.session_id]) AND s.month = n.session_month
),
stored AS (
    INSERT INTO flusher.upgrades (
        id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at, outcome, applied_to, replaced_hash
    )
    SELECT id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at,
        CASE WHEN session_month IS NULL THEN 'waiting' ELSE 'applied' END,
        CASE WHEN session_month IS NOT NULL THEN session_id END, replaced_hash
    FROM new
)
SELECT id, session_id, session_month, created_at, replaced_hash FROM new
