-- Stores a staged batch: of the copies of a session, the earliest stays. A copy does not replace a session whose
-- upgrade is deleted already. Returns the sessions that were known, as they were, and then those that are stored now.
WITH known AS MATERIALIZED (
    SELECT k.* FROM incoming_sessions i
    CROSS JOIN LATERAL (SELECT * FROM sessions s WHERE s.id = i.id AND s.month = i.month OFFSET 0) k
),
merged AS (
    INSERT INTO sessions AS s SELECT * FROM incoming_sessions
    ON CONFLICT (id, month) DO UPDATE
    SET site = excluded.site, monthly_user_hash = excluded.monthly_user_hash,
        highest_role = excluded.highest_role, created_at = excluded.created_at, upgraded_at = NULL
    WHERE excluded.created_at < s.created_at AND (
        s.upgraded_at IS NULL
        OR (SELECT u.id FROM flusher.upgrades u
            WHERE coalesce(u.session_id, u.applied_to) = s.id AND u.outcome = 'applied' LIMIT 1) IS NOT NULL
    )
    RETURNING s.*
)
SELECT false AS stored, known.* FROM known UNION ALL SELECT true, merged.* FROM merged
