-- Which sessions of month $3 are stored. $1, $2: the lowest and the highest id that each may have, as texts of arrays.
SELECT s.id
FROM unnest($1::text::uuid[], $2::text::uuid[]) AS k (first, last)
CROSS JOIN LATERAL (SELECT id FROM sessions WHERE id BETWEEN k.first AND k.last AND month = $3::date LIMIT 1) s
