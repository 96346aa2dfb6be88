-- Deletes up to 10,000 sessions of a run, and returns them as they were. They are found in the order of their ids,
-- because only the end of an id shows its run. $1: the month; $2: the run; $3: after which id.
WITH stored AS MATERIALIZED (
    SELECT id FROM sessions WHERE month = $1::date AND id > $3::uuid AND right(id::text, 12) = $2 ORDER BY id LIMIT 10000
)
DELETE FROM sessions s USING stored WHERE s.id = stored.id AND s.month = $1
RETURNING s.id, s.month, s.site, s.monthly_user_hash, s.highest_role, s.created_at
