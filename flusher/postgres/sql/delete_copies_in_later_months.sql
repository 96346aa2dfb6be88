-- Keeps the earliest month's copy of each session ($1: ids), within the months from $2 to $3. Deletes and returns the others.
DELETE FROM sessions later
WHERE later.id = ANY ($1::uuid[]) AND later.month BETWEEN $2::date AND $3::date
    AND later.month > (SELECT min(month) FROM sessions earlier WHERE earlier.id = later.id AND earlier.month >= $2::date)
RETURNING id, month, site, monthly_user_hash, highest_role, created_at
