-- Where a month's line can move to: so far behind its newest session, or none where that is no
-- further on. $1: the month; $2: now; $3: how far behind.
SELECT line
FROM (
    SELECT least(max(created_at), $2::timestamptz) - $3::interval AS line
    FROM sessions WHERE month = $1::date
) newest
WHERE line > (SELECT watched_until FROM flusher.counted_months WHERE month = $1::date)
