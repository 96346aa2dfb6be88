-- Which sessions of an import are there already. $1 and $2: the first and the last id that each may have, as the texts of
-- arrays, which are made in a third of the time; $3: their month. Returns the ids that are there.
SELECT s.id
FROM unnest($1::text::uuid[], $2::text::uuid[]) AS k (first, last)
CROSS JOIN LATERAL (SELECT id FROM sessions WHERE id BETWEEN k.first AND k.last AND month = $3::date LIMIT 1) s
