-- The ids of an import's sessions that are stored already. $1, $2: the lowest and the highest id that each session may
-- have, as texts of arrays (which take a third of the time to make); $3: their month.
SELECT s.id
FROM unnest($1::text::uuid[], $2::text::uuid[]) AS k (first, last)
CROSS JOIN LATERAL (SELECT id FROM sessions WHERE id BETWEEN k.first AND k.last AND month = $3::date LIMIT 1) s
