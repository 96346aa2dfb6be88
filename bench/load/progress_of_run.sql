-- How many rows of one run there are, and how many of them upgraded.
-- $1, $2: the least and the greatest id that it may have made; $3: its tag, in every id.
SELECT count(*), count(upgraded_at)
FROM sessions
WHERE id BETWEEN $1 AND $2 AND substring(uuid_send(id) FROM 9 FOR 4) = $3::bytea
