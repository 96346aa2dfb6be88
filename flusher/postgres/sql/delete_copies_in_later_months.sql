-- A session that was sent again after its month's end is still one session: the earlier month's
-- copy stays. $1: ids that may have copies; $2, $3: the months to look at. Returns the copies that
-- went. Only by key:
-- docs/decisions/0006-kept-counts.md.
DELETE FROM sessions later
USING sessions earlier
WHERE later.id = ANY ($1::uuid[])
    AND earlier.id = ANY (ARRAY[later.id])
    AND earlier.month < later.month
    AND earlier.month BETWEEN $2::date AND $3::date
    AND later.month BETWEEN $2::date AND $3::date
RETURNING later.id, later.month, later.site, later.monthly_user_hash, later.highest_role,
    later.created_at
