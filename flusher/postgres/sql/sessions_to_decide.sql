-- Sessions of visitors that upgrades have taken or may take.
-- $1 to $5: the visitors: month, site, hash, since when, and how many are wanted of those that began
-- before; $6, $7: sessions that were taken since, and by which visitor's place each is.
WITH v AS (
    SELECT * FROM unnest($1::date[], $2::text[], $3::uuid[], $4::timestamptz[], $5::integer[])
        WITH ORDINALITY AS v (month, site, hash, since, wanted, place)
)
SELECT t.place, s.id, s.created_at, s.monthly_user_hash, s.highest_role, s.upgraded_at
FROM unnest($6::uuid[], $7::bigint[]) AS t (id, place)
JOIN sessions s ON s.id = ANY (ARRAY[t.id]) AND s.month = ($1::date[])[t.place]
UNION ALL
SELECT v.place, s.id, s.created_at, s.monthly_user_hash, NULL, NULL
FROM v CROSS JOIN LATERAL (
    SELECT * FROM sessions l
    WHERE l.monthly_user_hash = v.hash AND l.created_at >= v.since AND l.highest_role IS NULL
        AND l.month = v.month AND l.site = v.site
    ORDER BY l.monthly_user_hash DESC, l.highest_role DESC, l.created_at DESC
) s
UNION ALL
SELECT v.place, s.id, s.created_at, s.monthly_user_hash, NULL, NULL
FROM v CROSS JOIN LATERAL (
    SELECT * FROM sessions l
    WHERE l.monthly_user_hash = v.hash AND l.created_at < v.since AND l.highest_role IS NULL
        AND l.month = v.month AND l.site = v.site
    ORDER BY l.monthly_user_hash DESC, l.highest_role DESC, l.created_at DESC, l.id DESC
    LIMIT v.wanted
) s
