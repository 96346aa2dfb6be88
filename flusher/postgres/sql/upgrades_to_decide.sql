-- Upgrades of `current`, with the visitor's place, from 1. $1 to $4: the visitors: month, site, hash, since when.
SELECT v.place, u.id, u.session_id, u.month, u.user_hash, u.highest_role, u.upgraded_at, u.outcome, u.applied_to
FROM unnest($1::date[], $2::text[], $3::uuid[], $4::timestamptz[])
    WITH ORDINALITY AS v (month, site, hash, since, place)
CROSS JOIN LATERAL (SELECT * FROM flusher.upgrades u WHERE u.visitor_hash = v.hash AND u.upgraded_at >= v.since OFFSET 0) u
WHERE u.month = v.month AND u.site = v.site
