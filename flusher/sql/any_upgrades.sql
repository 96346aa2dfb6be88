-- What there is to match with a batch, so that most batches need no more than this question.
SELECT
    EXISTS (SELECT FROM flusher.upgrades WHERE outcome = 'waiting' AND session_id IS NOT NULL)
        AS waiting,
    EXISTS (SELECT FROM flusher.upgrades WHERE visitor_hash IS NOT NULL) AS of_current
