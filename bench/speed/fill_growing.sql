-- Fills the table of bench/speed/growth.py: $1 the month, $2 how many sessions.
-- Random ids, in the order in which they come, so that the indexes grow as they do in use; counted
-- as a flusher counts, a person each.
WITH filled AS (
    INSERT INTO sessions (id, month, site, monthly_user_hash, created_at)
    SELECT gen_random_uuid(), $1::date, 'city-' || n % 20 || '.example.org', gen_random_uuid(),
        $1::date::timestamp AT TIME ZONE 'UTC' + n * interval '1 ms'
    FROM generate_series(1, $2::int) AS n
    RETURNING month, site
)
INSERT INTO flusher.count_changes
SELECT of_month > 0, site, month, month, count(*), 0, of_month * count(*), 0, of_month * count(*)
FROM filled, (VALUES (0), (1)) AS kind (of_month)
GROUP BY month, site, of_month
