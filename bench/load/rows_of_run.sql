-- The rows of one run, in the order of their ids.
-- $1, $2: the least and the greatest id that it may have made; $3: its tag, in every id.
SELECT
    uuid_send(id),
    month,
    site,
    uuid_send(monthly_user_hash),
    highest_role,
    (extract(epoch FROM created_at) * 1000000)::bigint,
    (extract(epoch FROM upgraded_at) * 1000000)::bigint
FROM sessions
WHERE id BETWEEN $1 AND $2 AND substring(uuid_send(id) FROM 9 FOR 4) = $3::bytea
ORDER BY id, month
