-- Of visitors whose sessions or upgrades have changed, those with upgrades of `current` that it may
-- concern. $1 to $4: month, site, hash, and since when something is different. Only by key:
-- docs/decisions/0006-kept-counts.md.
SELECT v.*
FROM unnest($1::date[], $2::text[], $3::uuid[], $4::timestamptz[]) AS v (month, site, hash, since)
WHERE (
    SELECT u.id FROM flusher.upgrades u
    WHERE u.visitor_hash = v.hash AND u.upgraded_at >= v.since
        AND u.month = v.month AND u.site = v.site
    LIMIT 1
) IS NOT NULL
