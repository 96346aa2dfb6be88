-- Sessions of visitors that upgrades have taken since a time, or may take, with the visitor's place, from 1.
-- $1 to $5: the visitors: month, site, hash, since when, and the number of earlier sessions that may be taken.
WITH v AS (
    SELECT * FROM unnest($1::date[], $2::text[], $3::uuid[], $4::timestamptz[], $5::integer[])
        WITH ORDINALITY AS v (month, site, hash, since, wanted, place)
)
SELECT v.place, s.id, s.created_at, s.monthly_user_hash, s.highest_role, s.upgraded_at
FROM v
CROSS JOIN LATERAL (SELECT * FROM flusher.upgrades u WHERE u.replaced_hash = v.hash AND u.upgraded_at >= v.since OFFSET 0) u
CROSS JOIN LATERAL (SELECT * FROM sessions WHERE id = u.applied_to AND month = v.month OFFSET 0) s
WHERE u.site = v.site
UNION ALL
SELECT v.place, s.id, s.created_at, s.monthly_user_hash, NULL, NULL
FROM v
CROSS JOIN LATERAL (VALUES (v.since, 'infinity', NULL), ('-infinity', v.since, v.wanted)) AS part (since, until, wanted)
CROSS JOIN LATERAL (
    SELECT * FROM sessions l
    WHERE l.monthly_user_hash = v.hash AND l.created_at >= part.since AND l.created_at < part.until AND l.highest_role IS NULL
        AND l.month = v.month AND l.site = v.site
    ORDER BY l.monthly_user_hash DESC, l.highest_role DESC, l.created_at DESC, l.id DESC
    LIMIT part.wanted
) s
