-- Where a month's line can move to: so far behind its newest session, or so many sessions where that
-- is nearer; or none where that is no further on.
-- $1: the month; $2: now; $3: how far behind; $4: how many sessions behind.
SELECT line
FROM (
    SELECT greatest(
        newest - $3::interval,
        -- Of what is that near only, so that it takes no longer however few there are.
        (
            SELECT s.created_at FROM sessions s
            WHERE s.month = $1::date AND s.created_at > newest - $3::interval
                AND s.created_at <= newest
            ORDER BY s.created_at DESC
            OFFSET $4 LIMIT 1
        )
    ) AS line
    FROM (
        SELECT least(max(created_at), $2::timestamptz) AS newest
        FROM sessions WHERE month = $1::date
    ) latest
) behind
WHERE line > (SELECT watched_until FROM flusher.counted_months WHERE month = $1::date)
