-- Which sessions of an import are there already. $1 to $3: the first and the last id that each may have, and its month, as
-- the texts of arrays, which are made in a third of the time. Returns the ids that are there.
SELECT s.id
FROM unnest($1::text::uuid[], $2::text::uuid[], $3::text::date[]) AS k (first, last, month)
CROSS JOIN LATERAL (SELECT id FROM sessions WHERE id BETWEEN k.first AND k.last AND month = k.month LIMIT 1) s
