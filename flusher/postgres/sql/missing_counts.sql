-- Where the kept counts of a month fall short of its sessions. $1: the month; $2: whether it is open.
-- What is to be counted again anyway is left out.
SELECT d.*
FROM (
    SELECT site, day, visitor_sessions, signed_in_sessions, unique_users, unique_signed_in_users,
        unique_visitors, 0 AS people
    FROM flusher.missing_counts($1::date, NULL)
    UNION ALL
    SELECT site, NULL, 0, 0, 0, 0, 0, count(*)
    FROM flusher.missing_people($1::date, NULL)
    WHERE $2
    GROUP BY site
) d
WHERE NOT EXISTS (SELECT FROM flusher.recounts r WHERE r.month = $1::date AND r.site = d.site)
ORDER BY d.site, d.day NULLS FIRST
