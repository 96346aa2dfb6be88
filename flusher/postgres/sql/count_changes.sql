-- Adds a batch's changes of sessions in open months to the counts. Of whoever begins or ceases to count
-- the rows tell that are changed here, one person after the other, each locked from here to the commit.
-- $1 to $4: month and site, and the places of their first and last person in $5 to $7: hash, how many
-- more sessions as a visitor's, how many more signed in. In an order that all batches have, so that no
-- two wait for each other. $8 to $12: by minute: month, site, minute, and the same.
-- Returns who has no session left.
WITH counted AS (
    INSERT INTO flusher.people AS p
    SELECT w.month, w.site, c.hash, c.as_visitor, c.signed_in, c.as_visitor, c.signed_in
    FROM unnest($1::date[], $2::text[], $3::integer[], $4::integer[]) AS w (month, site, first, last)
    CROSS JOIN LATERAL unnest(
        ($5::uuid[])[w.first:w.last], ($6::integer[])[w.first:w.last], ($7::integer[])[w.first:w.last]
    ) AS c (hash, as_visitor, signed_in)
    ON CONFLICT (monthly_user_hash, site, month) DO UPDATE
    SET visitor_sessions = p.visitor_sessions + excluded.visitor_sessions,
        signed_in_sessions = p.signed_in_sessions + excluded.signed_in_sessions,
        visitor_change = excluded.visitor_sessions, signed_in_change = excluded.signed_in_sessions
    RETURNING month, site, monthly_user_hash, visitor_sessions AS v, signed_in_sessions AS s,
        visitor_change AS v_change, signed_in_change AS s_change
),
changed AS (
    INSERT INTO flusher.count_changes (
        month, day, site, visitor_sessions, signed_in_sessions, unique_users, unique_signed_in_users, unique_visitors
    )
    SELECT month, NULL, site, sum(v_change), sum(s_change),
        -- Who came before, and who comes now: the difference is who begins or ceases to count.
        sum((v + s > 0)::integer - (v + s > v_change + s_change)::integer),
        sum((s > 0)::integer - (s > s_change)::integer),
        sum((v > 0)::integer - (v > v_change)::integer)
    FROM counted GROUP BY month, site
    UNION ALL
    SELECT d.month, (d.minute AT TIME ZONE (SELECT timezone FROM flusher.calendar))::date AS day, d.site,
        sum(d.as_visitor), sum(d.signed_in), 0, 0, 0
    FROM unnest($8::date[], $9::text[], $10::timestamptz[], $11::integer[], $12::integer[])
        AS d (month, site, minute, as_visitor, signed_in)
    GROUP BY d.month, day, d.site
)
SELECT month, site, monthly_user_hash FROM counted WHERE v = 0 AND s = 0
