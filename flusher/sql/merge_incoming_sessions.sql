-- Stores a staged batch: of copies of one session, the earliest stays. Returns the ids stored, and
-- whether each is new or replaces a later copy. A copy that is earlier than a session whose upgrade
-- is no longer at hand is too late to replace it.
WITH known AS (
    SELECT s.id FROM sessions s JOIN incoming_sessions i ON i.id = s.id AND i.month = s.month
),
merged AS (
    INSERT INTO sessions AS s (id, month, site, monthly_user_hash, highest_role, created_at)
    SELECT id, month, site, monthly_user_hash, highest_role, created_at FROM incoming_sessions
    ON CONFLICT (id, month) DO UPDATE
    SET site = excluded.site,
        monthly_user_hash = excluded.monthly_user_hash,
        highest_role = excluded.highest_role,
        created_at = excluded.created_at,
        upgraded_at = NULL
    WHERE excluded.created_at < s.created_at AND (
        s.upgraded_at IS NULL
        OR EXISTS (
            SELECT FROM flusher.upgrades u WHERE u.session_id = s.id AND u.outcome = 'applied'
        )
        OR EXISTS (
            SELECT FROM flusher.upgrades u WHERE u.session_id IS NULL AND u.applied_to = s.id
        )
    )
    RETURNING s.id
)
SELECT merged.id, known.id IS NULL AS is_new
FROM merged LEFT JOIN known ON known.id = merged.id
