-- Stores a staged batch: of copies of one session, the earliest stays. Returns the ids stored, and
-- whether each is new or replaces a later copy. A copy that is earlier than a session whose upgrade
-- is no longer at hand is too late to replace it.
-- Only by key, whatever the statistics say: docs/decisions/0011-by-key.md.
WITH known AS (
    SELECT i.id
    FROM incoming_sessions i
    WHERE (SELECT s.id FROM sessions s WHERE s.id = i.id AND s.month = i.month) IS NOT NULL
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
        OR (
            SELECT u.id FROM flusher.upgrades u
            WHERE u.session_id = s.id AND u.outcome = 'applied' LIMIT 1
        ) IS NOT NULL
        OR (
            SELECT u.id FROM flusher.upgrades u
            WHERE u.session_id IS NULL AND u.applied_to = s.id LIMIT 1
        ) IS NOT NULL
    )
    RETURNING s.id
)
SELECT id, id NOT IN (SELECT id FROM known) AS is_new FROM merged
