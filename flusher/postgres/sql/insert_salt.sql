-- Notes once that a salt was made ($1 to $4: the event's id, month, outcome, time). Returns its month, and whether the
-- month's earlier visitors count twice. A salt's server that has lost its data reports a month's first salt although
-- there was one before: an earlier note or earlier sessions show this.
INSERT INTO flusher.salts (id, month, outcome, made_at)
SELECT $1::uuid, $2::date, CASE
    WHEN $3::text IN ('first', 'rotated')
        AND EXISTS (SELECT FROM flusher.salts WHERE month = $2 AND id <> $1 AND made_at < $4::timestamptz)
        OR $3 = 'first' AND EXISTS (SELECT FROM sessions WHERE month = $2 AND created_at < $4)
    THEN 'lost' ELSE $3 END, $4
ON CONFLICT (id) DO NOTHING
RETURNING month, outcome IN ('lost', 'replaced') AS counts_twice
