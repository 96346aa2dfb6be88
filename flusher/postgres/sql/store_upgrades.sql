-- Stores upgrades, each once: an id that is known is a repeat. The only one that is known of an
-- anonymous session is applied to it at once, as `apply_upgrades` would; the others wait for that.
-- After `lock_upgrades`: nobody else stores any. Only by key: docs/decisions/0006-kept-counts.md.
-- $1 to $8: the columns; $9: whether each is its session's only one here; $10: the earliest month to look in.
-- Returns how many are new, which of them wait and for which sessions, which are of `current`; and
-- which were applied, with the month, start and hash of the session that each upgraded.
WITH incoming AS MATERIALIZED (
    SELECT i.*, i.is_only_one AND (
        -- A scalar, since what is asked with EXISTS may be answered by reading the whole table.
        SELECT u.id FROM flusher.upgrades u WHERE u.session_id = i.session_id LIMIT 1
    ) IS NULL AS is_first
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::date[], $5::text[], $6::uuid[], $7::text[], $8::timestamptz[], $9::boolean[]
    ) AS i (id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at, is_only_one)
),
matched AS MATERIALIZED (
    SELECT DISTINCT ON (i.id) i.*, s.month AS session_month, s.monthly_user_hash AS replaced_hash, s.created_at
    FROM incoming i
    JOIN LATERAL (
        SELECT * FROM sessions WHERE id = i.session_id AND month <= i.month AND month >= $10::date OFFSET 0
    ) s ON s.site = i.site AND s.highest_role IS NULL
    WHERE i.is_first
    ORDER BY i.id, s.month
),
changed AS (
    UPDATE sessions s
    SET highest_role = m.highest_role, upgraded_at = m.upgraded_at,
        monthly_user_hash = CASE WHEN m.month = s.month THEN m.user_hash ELSE s.monthly_user_hash END
    FROM matched m
    WHERE s.id = ANY (ARRAY[m.session_id]) AND s.month = m.session_month
),
applied AS (
    INSERT INTO flusher.upgrades (
        id, session_id, month, site, user_hash, highest_role, upgraded_at, outcome, applied_to, replaced_hash
    )
    SELECT id, session_id, month, site, user_hash, highest_role, upgraded_at, 'applied', session_id, replaced_hash
    FROM matched
),
waiting AS (
    INSERT INTO flusher.upgrades (id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at)
    SELECT id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at
    FROM incoming WHERE id NOT IN (SELECT id FROM matched)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, session_id
)
SELECT (SELECT count(*) FROM matched) + (SELECT count(*) FROM waiting) AS count,
    ARRAY(SELECT id FROM waiting WHERE session_id IS NOT NULL) AS waiting,
    ARRAY(SELECT session_id FROM waiting WHERE session_id IS NOT NULL) AS waited_for,
    ARRAY(SELECT id FROM waiting WHERE session_id IS NULL) AS of_current,
    ARRAY(SELECT id FROM matched) AS applied,
    ARRAY(SELECT session_month FROM matched) AS months,
    ARRAY(SELECT created_at FROM matched) AS began,
    ARRAY(SELECT replaced_hash FROM matched) AS replaced
