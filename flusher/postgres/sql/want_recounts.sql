-- Marks months and sites whose counts no longer hold. $1, $2: in order, so that no two batches wait
-- for each other. A mark that is there is changed all the same: whoever recounts waits for this commit.
INSERT INTO flusher.recounts (month, site)
SELECT * FROM unnest($1::date[], $2::text[])
ON CONFLICT (month, site) DO UPDATE SET wanted_at = excluded.wanted_at
