-- Salts that were made in the middle of their month. $1: the first month.
SELECT month, outcome, made_at FROM flusher.salts
WHERE outcome IN ('lost', 'replaced') AND month >= $1::date
ORDER BY made_at
