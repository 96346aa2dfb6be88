-- Adds a batch's changes of a month's sessions to the counts: how `unique_visitors` comes about.
--
-- A person whose sessions changed by `v` as a visitor's and by `s` signed in (below zero: fewer) begins or
-- ceases to count by whether there are others now. "Others" are visitor's sessions beyond those `v` that
-- were just added (or, where `v` is not above zero, any): then the person was a visitor before and is one
-- now. Without others, who gained some was none before, and who lost some is none now.
--
-- After the sessions are written, under `Lock.UPGRADES`: so of two batches with the same person's sessions
-- the second, which begins here when the first is committed, sees the first one's.
-- $1: the month. $2 to $4: sites, and the places of their first and last person in $5 to $7: hash, `v`, `s`.
-- $8 to $11: by minute since the beginning of 2000: site, minute, and the same; PostgreSQL alone says of which day a
-- minute is. $5 to $7 and $9 to $11 are the texts of arrays.
WITH late AS (UPDATE flusher.months SET kept = NULL WHERE month = $1::date AND kept IS NOT NULL) -- it is closed again
INSERT INTO flusher.count_changes
SELECT true, p.site, $1::date, $1::date, sum(p.v), sum(p.s),
    sum((p.v > 0 OR p.s > 0 OR p.other_v OR p.other_s)::integer - (p.v < 0 OR p.s < 0 OR p.other_v OR p.other_s)::integer),
    sum((p.s > 0 OR p.other_s)::integer - (p.s < 0 OR p.other_s)::integer),
    sum((p.v > 0 OR p.other_v)::integer - (p.v < 0 OR p.other_v)::integer)
FROM (
    SELECT w.site, c.v, c.s, o.others AND o.signed_in AS other_s,
        -- Others of which none is signed in are a visitor's.
        o.others AND (NOT o.signed_in OR coalesce((
            SELECT highest_role IS NULL FROM sessions
            WHERE monthly_user_hash = c.hash AND month = $1 AND site = w.site
            ORDER BY monthly_user_hash DESC, highest_role DESC OFFSET greatest(c.v, 0) LIMIT 1
        ), false)) AS other_v
    FROM (SELECT $5::text::uuid[] AS hashes, $6::text::integer[] AS v, $7::text::integer[] AS s OFFSET 0) a
    CROSS JOIN unnest($2::text[], $3::integer[], $4::integer[]) AS w (site, first, last)
    CROSS JOIN LATERAL unnest(a.hashes[w.first:w.last], a.v[w.first:w.last], a.s[w.first:w.last]) AS c (hash, v, s)
    CROSS JOIN LATERAL (
        -- A person's sessions stand in the index in this order: those that are signed in, then the visitor's. One more
        -- of them than were added tells whether there are others.
        SELECT count(*) > greatest(c.v, 0) + greatest(c.s, 0) AS others, count(f.highest_role) > greatest(c.s, 0) AS signed_in
        FROM (
            SELECT highest_role FROM sessions WHERE monthly_user_hash = c.hash AND month = $1 AND site = w.site
            ORDER BY monthly_user_hash, highest_role LIMIT greatest(c.v, 0) + greatest(c.s, 0) + 1
        ) f
        OFFSET 0
    ) o
    OFFSET 0
) p
GROUP BY p.site
UNION ALL
SELECT false, d.site, $1::date, (to_timestamp(946684800 + 60 * d.minute)
        AT TIME ZONE (SELECT timezone FROM flusher.calendar))::date AS day,
    sum(d.v), sum(d.s), 0, 0, 0
FROM unnest($8::text[], $9::text::bigint[], $10::text::integer[], $11::text::integer[]) AS d (site, minute, v, s)
GROUP BY day, d.site
