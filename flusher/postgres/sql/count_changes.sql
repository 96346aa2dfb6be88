-- Adds the changes of a month's sessions to the counts. Runs after the sessions are written, under `Lock.UPGRADES`.
-- `v` and `s` are by how many a person's visitor's and signed-in sessions have changed (negative: removed). Whether
-- this changes the number of people depends on other sessions of the person: those besides the ones just added. With
-- others, the person counted before and counts now. Without others, a person with new sessions counts from now on,
-- and one with removed sessions no longer counts.
-- $1: the month. $2 to $4: sites, and the places of their first and last person in $5 to $7: hash, `v`, `s`.
-- $8 to $11: the site, the minute since the beginning of 2000, `v`, `s`. $5 to $7 and $9 to $11 are texts of arrays.
WITH late AS (UPDATE flusher.months SET kept = NULL WHERE month = $1::date AND kept IS NOT NULL) -- so that it is closed again
INSERT INTO flusher.count_changes
SELECT true, p.site, $1::date, $1::date, sum(p.v), sum(p.s),
    sum((p.v > 0 OR p.s > 0 OR p.other_v OR p.other_s)::integer - (p.v < 0 OR p.s < 0 OR p.other_v OR p.other_s)::integer),
    sum((p.s > 0 OR p.other_s)::integer - (p.s < 0 OR p.other_s)::integer),
    sum((p.v > 0 OR p.other_v)::integer - (p.v < 0 OR p.other_v)::integer)
FROM (
    SELECT w.site, c.v, c.s, o.others AND o.signed_in AS other_s,
        -- If others exist and none is signed in, they are a visitor's.
        o.others AND (NOT o.signed_in OR coalesce((
            SELECT highest_role IS NULL FROM sessions
            WHERE monthly_user_hash = c.hash AND month = $1 AND site = w.site
            ORDER BY monthly_user_hash DESC, highest_role DESC OFFSET greatest(c.v, 0) LIMIT 1
        ), false)) AS other_v
    FROM (SELECT $5::text::uuid[] AS hashes, $6::text::integer[] AS v, $7::text::integer[] AS s OFFSET 0) a
    CROSS JOIN unnest($2::text[], $3::integer[], $4::integer[]) AS w (site, first, last)
    CROSS JOIN LATERAL unnest(a.hashes[w.first:w.last], a.v[w.first:w.last], a.s[w.first:w.last]) AS c (hash, v, s)
    CROSS JOIN LATERAL (
        -- In the index, a person's signed-in sessions come first, then the visitor's. One more session than were added
        -- shows that there are others.
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
        AT TIME ZONE (SELECT timezone FROM flusher.state))::date AS day,
    sum(d.v), sum(d.s), 0, 0, 0
FROM unnest($8::text[], $9::text::bigint[], $10::text::integer[], $11::text::integer[]) AS d (site, minute, v, s)
GROUP BY day, d.site
