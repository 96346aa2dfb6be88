-- Notes that salts were made, each once. Returns the months in which who came before counts twice.
-- The salt's server may have lost all that it knew, and then tells of a month's first salt, though
-- there was one before: the database knows better, by an earlier note or by sessions from before.
INSERT INTO flusher.salts (id, month, outcome, made_at)
SELECT
    made.id,
    made.month,
    CASE
        WHEN made.outcome IN ('first', 'rotated') AND (
            EXISTS (
                SELECT FROM flusher.salts s
                WHERE s.month = made.month AND s.id <> made.id AND s.made_at < made.made_at
            ) OR row_number() OVER (PARTITION BY made.month ORDER BY made.made_at) > 1
        ) THEN 'lost'
        WHEN made.outcome = 'first' AND EXISTS (
            SELECT FROM public.sessions s
            WHERE s.month = made.month AND s.created_at < made.made_at
        ) THEN 'lost'
        ELSE made.outcome
    END,
    made.made_at
FROM unnest($1::uuid[], $2::date[], $3::text[], $4::timestamptz[]) made (id, month, outcome, made_at)
ON CONFLICT (id) DO NOTHING
RETURNING month, outcome IN ('lost', 'replaced') AS counts_twice
