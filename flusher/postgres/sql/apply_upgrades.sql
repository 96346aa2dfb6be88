-- Applies to each session the first of its upgrades: the earliest by the collector's clock (of one instant, by id), of the
-- session's own site, and not of a month before its own. In a later month the session keeps its
-- hash, since the salt that made it is gone.
-- $1: sessions; $2: the earliest month to look in. Returns the sessions that changed, before and after.
WITH first AS (
    SELECT DISTINCT ON (u.session_id)
        u.id AS upgrade_id, u.month, u.user_hash, u.highest_role, u.upgraded_at, s.id AS session_id,
        s.month AS session_month, s.monthly_user_hash AS hash_before, s.highest_role AS role_before,
        before.id AS before_id, coalesce(before.replaced_hash, s.monthly_user_hash) AS replaced_hash
    FROM flusher.upgrades u
    CROSS JOIN LATERAL (
        SELECT * FROM sessions WHERE id = u.session_id AND month <= u.month AND month >= $2::date OFFSET 0
    ) s
    LEFT JOIN LATERAL (
        SELECT b.id, b.replaced_hash FROM flusher.upgrades b
        WHERE coalesce(b.session_id, b.applied_to) = s.id AND b.outcome = 'applied' LIMIT 1
    ) before ON true
    WHERE coalesce(u.session_id, u.applied_to) = ANY ($1::uuid[]) AND u.session_id IS NOT NULL AND s.site = u.site AND (s.highest_role IS NULL OR s.upgraded_at IS NOT NULL)
    ORDER BY u.session_id, u.upgraded_at, u.id
),
changed AS (
    UPDATE sessions s
    SET highest_role = f.highest_role, upgraded_at = f.upgraded_at,
        monthly_user_hash = CASE WHEN f.month = s.month THEN f.user_hash ELSE s.monthly_user_hash END
    FROM first f
    WHERE s.id = ANY (ARRAY[f.session_id]) AND s.month = f.session_month
        AND (s.upgraded_at IS NULL OR f.upgraded_at < s.upgraded_at
            OR f.upgraded_at = s.upgraded_at AND f.upgrade_id < f.before_id)
    RETURNING s.id, s.month, s.site, s.created_at, f.hash_before, f.role_before,
        s.monthly_user_hash AS hash_after, f.upgrade_id, f.before_id, f.replaced_hash, f.upgraded_at
),
marked AS (
    UPDATE flusher.upgrades u
    SET outcome = CASE WHEN u.id = c.upgrade_id THEN 'applied'
            WHEN u.session_id IS NULL THEN 'waiting' ELSE 'superseded' END, -- `current` may take another
        applied_to = CASE WHEN u.id = c.upgrade_id THEN c.id END,
        replaced_hash = CASE WHEN u.id = c.upgrade_id THEN c.replaced_hash END
    FROM changed c
    WHERE u.id IN (c.upgrade_id, c.before_id)
)
SELECT month, site, created_at, hash_before, role_before, hash_after, replaced_hash, upgraded_at FROM changed
