-- Which of a batch's sessions have an upgrade waiting for them. $1: the batch's session ids.
SELECT DISTINCT session_id
FROM flusher.upgrades
WHERE outcome = 'waiting' AND session_id = ANY ($1::uuid[])
