-- A session that was sent again after its month's end is one session: deletes the later month's copy, and
-- returns it. $1: ids that may have copies; $2, $3: the first and the last month to search.
DELETE FROM sessions later
WHERE later.id = ANY ($1::uuid[]) AND later.month BETWEEN $2::date AND $3::date
    AND (
        SELECT earlier.id FROM sessions earlier
        WHERE earlier.id = later.id AND earlier.month >= $2::date AND earlier.month < later.month
        LIMIT 1
    ) IS NOT NULL
RETURNING id, month, site, monthly_user_hash, highest_role, created_at
