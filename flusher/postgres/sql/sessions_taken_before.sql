-- The newest session of a visitor that each user had taken before a time ($1 to $6, as they are named below).
SELECT DISTINCT ON (t.place, t.user_hash) t.place, t.user_hash, s.created_at, s.id
FROM unnest($1::date[], $2::text[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::bigint[])
    AS t (month, site, hash, until, user_hash, place)
CROSS JOIN LATERAL (SELECT * FROM flusher.upgrades u WHERE u.replaced_hash = t.hash AND u.user_hash = t.user_hash OFFSET 0) u
JOIN sessions s ON s.id = ANY (ARRAY[u.applied_to]) AND s.month = t.month
WHERE u.site = t.site AND u.upgraded_at < t.until
ORDER BY t.place, t.user_hash, s.created_at DESC, s.id DESC
