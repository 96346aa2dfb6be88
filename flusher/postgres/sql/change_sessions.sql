-- $1, $2: sessions and their months; $3 to $5: their new hash, role and time of upgrade.
UPDATE sessions s
SET monthly_user_hash = n.monthly_user_hash, highest_role = n.highest_role, upgraded_at = n.upgraded_at
FROM unnest($1::uuid[], $2::date[], $3::uuid[], $4::text[], $5::timestamptz[])
    AS n (id, month, monthly_user_hash, highest_role, upgraded_at)
WHERE s.id = ANY (ARRAY[n.id]) AND s.month = n.month
