-- $1: ids; $2: the month.
SELECT id FROM sessions WHERE id = ANY ($1::uuid[]) AND month = $2::date
