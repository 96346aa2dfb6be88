-- Upgrades of visitors from a time on: those of `current`, and those by id that were applied.
-- $1 to $4: the visitors: month, site, hash, since when. Returns them by the visitor's place from 1 on.
SELECT v.place, u.id, u.session_id, u.month, u.user_hash, u.highest_role, u.upgraded_at, u.outcome,
    u.applied_to
FROM unnest($1::date[], $2::text[], $3::uuid[], $4::timestamptz[])
    WITH ORDINALITY AS v (month, site, hash, since, place)
CROSS JOIN LATERAL (
    SELECT * FROM flusher.upgrades c
    WHERE c.visitor_hash = v.hash AND c.upgraded_at >= v.since AND c.month = v.month
    UNION ALL
    SELECT * FROM flusher.upgrades a
    WHERE a.replaced_hash = v.hash AND a.upgraded_at >= v.since AND a.session_id IS NOT NULL
    OFFSET 0
) u
WHERE u.site = v.site
