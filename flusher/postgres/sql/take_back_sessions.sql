-- Deletes some of a run's sessions; they are returned as they were. $1: the month; $2: the run; $3: after which id. By the
-- order of their ids, since only the end of an id tells whose it is.
WITH stored AS MATERIALIZED (
    SELECT id FROM sessions WHERE month = $1::date AND id > $3::uuid AND right(id::text, 12) = $2 ORDER BY id LIMIT 10000
)
DELETE FROM sessions s USING stored WHERE s.id = stored.id AND s.month = $1
RETURNING s.id, s.month, s.site, s.monthly_user_hash, s.highest_role, s.created_at
