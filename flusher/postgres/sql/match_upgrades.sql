-- Stores new upgrades (a known id is a repeat), and matches new and stored upgrades with their sessions by the rules of
-- match.py. If a session no longer shows its upgrade, because a copy replaced it, that upgrade waits again.
-- $1 to $8: the columns of the new upgrades; $9: the sessions whose stored upgrades are matched; $10: nearly all sessions
-- are of this month or later, so earlier months are searched only if none is found.
-- Returns the upgrades that are new or have another outcome, with their sessions as they were.
WITH candidates AS (
    SELECT i.*, i.session_id AS session, NULL AS outcome, NULL::uuid AS replaced_hash
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::date[], $5::text[], $6::uuid[], $7::text[], $8::timestamptz[])
        AS i (id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at)
    -- A scalar, because PostgreSQL may read the whole table for EXISTS.
    WHERE (SELECT u.id FROM flusher.upgrades u WHERE u.id = i.id) IS NULL
    UNION ALL
    SELECT id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at,
        coalesce(session_id, applied_to), outcome, replaced_hash
    FROM flusher.upgrades WHERE coalesce(session_id, applied_to) = ANY ($9::uuid[])
),
found AS (
    SELECT c.*, s.month AS session_month, s.created_at, s.monthly_user_hash AS hash_before, s.highest_role AS role_before,
        s.upgraded_at AS upgraded_before, row_number() OVER of_session AS place,
        (array_agg(c.replaced_hash) FILTER (WHERE c.outcome = 'applied' AND c.upgraded_at = s.upgraded_at)
            OVER of_session)[1] AS visitors_hash -- of the upgrade that the session shows
    FROM candidates c
    LEFT JOIN LATERAL (
        SELECT * FROM (
            (SELECT * FROM sessions WHERE id = c.session AND month <= c.month AND month >= $10::date ORDER BY month OFFSET 0)
            UNION ALL
            (SELECT * FROM sessions WHERE id = c.session AND month <= c.month AND month < $10::date ORDER BY month OFFSET 0)
        ) f
        WHERE f.site = c.site AND (c.session_id IS NOT NULL OR f.upgraded_at = c.upgraded_at) LIMIT 1
    ) s ON true
    WINDOW of_session AS (
        PARTITION BY c.session, s.month ORDER BY c.upgraded_at, c.id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
decided AS MATERIALIZED (
    SELECT *, CASE WHEN new_outcome = 'applied' THEN session END AS applied_to,
        CASE WHEN new_outcome = 'applied' THEN coalesce(visitors_hash, hash_before) END AS replaces,
        -- In a later month the session keeps its hash, since the salt that made it is gone.
        CASE WHEN month = session_month THEN user_hash ELSE coalesce(visitors_hash, hash_before) END AS hash_after
    FROM (
        SELECT *, CASE
            WHEN session_month IS NULL THEN 'waiting'
            -- The upgrade that the session shows may be deleted already. Then only an earlier one wins.
            WHEN place = 1 AND (role_before IS NULL OR visitors_hash IS NOT NULL OR upgraded_at < upgraded_before) THEN 'applied'
            WHEN session_id IS NULL THEN 'waiting' -- `current` may take another
            ELSE 'superseded' END AS new_outcome
        FROM found
    ) d
    WHERE (outcome IS DISTINCT FROM new_outcome OR new_outcome = 'applied' AND upgraded_at IS DISTINCT FROM upgraded_before)
        -- Without a user's hash, its session was of an earlier month. It can't match another session.
        AND (user_hash IS NOT NULL OR session_month < month)
),
updated AS (
    UPDATE sessions s SET highest_role = n.highest_role, upgraded_at = n.upgraded_at, monthly_user_hash = n.hash_after
    FROM decided n WHERE s.id = ANY (ARRAY[n.applied_to]) AND s.month = n.session_month
),
stored AS (
    INSERT INTO flusher.upgrades (
        id, session_id, visitor_hash, month, site, user_hash, session_month, highest_role, upgraded_at, outcome, applied_to,
        replaced_hash
    )
    SELECT id, session_id, visitor_hash, month, site, CASE WHEN session_month < month THEN NULL ELSE user_hash END, session_month,
        highest_role, upgraded_at, new_outcome, applied_to, replaces
    FROM decided
    ON CONFLICT (id) DO UPDATE
    SET user_hash = excluded.user_hash, session_month = excluded.session_month, outcome = excluded.outcome,
        applied_to = excluded.applied_to, replaced_hash = excluded.replaced_hash
)
SELECT id, session, visitor_hash, month, site, user_hash, upgraded_at, outcome IS NULL AS is_new, new_outcome AS outcome,
    replaced_hash AS replaced, replaces, session_month, created_at, hash_before, role_before, hash_after
FROM decided
