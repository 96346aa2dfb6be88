-- Upgrades by id of sessions that are decided again: $1 to $5: the session, its month, site, since when, visitor's place.
SELECT t.place, u.id, u.session_id, u.month, u.user_hash, u.highest_role, u.upgraded_at, u.outcome, u.applied_to
FROM unnest($1::uuid[], $2::date[], $3::text[], $4::timestamptz[], $5::bigint[]) AS t (id, month, site, since, place)
CROSS JOIN LATERAL (SELECT * FROM flusher.upgrades u WHERE coalesce(u.session_id, u.applied_to) = t.id OFFSET 0) u
WHERE u.session_id IS NOT NULL AND u.site = t.site AND coalesce(u.session_month, t.month) = t.month
    AND u.month >= t.month AND u.upgraded_at >= t.since
