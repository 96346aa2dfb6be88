-- What a batch may have to be matched with: the sessions that upgrades wait for, at most $1; and whether there are any
-- upgrades of `current`. For most batches no other query is needed.
SELECT
    ARRAY(SELECT session_id FROM flusher.upgrades WHERE outcome = 'waiting' AND session_id IS NOT NULL LIMIT $1) AS awaited,
    EXISTS (SELECT FROM flusher.upgrades WHERE visitor_hash IS NOT NULL) AS of_current
