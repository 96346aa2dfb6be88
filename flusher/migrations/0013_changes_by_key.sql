-- As before, but whether a session's person is in a change is looked up by its key, whatever the
-- statistics say (docs/decisions/0011-by-key.md): what was planned as a join read all changes for each
-- session.
CREATE OR REPLACE VIEW flusher.uncounted AS
SELECT
    m.month, r.site, r.created_at, r.visitor, r.signed_in, r.visitor_now, r.signed_in_now,
    r.is_change, p.place, p.visitor_sessions, p.signed_in_sessions,
    coalesce(p.came_as_visitor, false) AS came_as_visitor,
    coalesce(p.came_signed_in, false) AS came_signed_in,
    CASE
        WHEN r.is_of_changed OR (r.visitor > 0 AND p.came_as_visitor IS NOT TRUE)
            OR (r.signed_in > 0 AND p.came_signed_in IS NOT TRUE)
        THEN r.monthly_user_hash
    END AS person
FROM (
    SELECT c.month, c.counted_until, c.tallied_until, EXISTS (
        SELECT FROM flusher.changes n WHERE n.month = c.month AND n.created_at < c.counted_until
    ) AS has_changes
    FROM flusher.counted_months c
    WHERE c.counted_until < 'infinity'
    OFFSET 0  -- else it is asked for each session whether there are changes
) m
CROSS JOIN LATERAL (
    SELECT s.site, s.monthly_user_hash, s.created_at,
        (s.highest_role IS NULL)::integer AS visitor,
        (s.highest_role IS NOT NULL)::integer AS signed_in,
        (s.highest_role IS NULL)::integer AS visitor_now,
        (s.highest_role IS NOT NULL)::integer AS signed_in_now,
        false AS is_change,
        m.has_changes AND (
            SELECT c.month FROM flusher.changes c
            WHERE c.month = m.month AND c.monthly_user_hash = s.monthly_user_hash
                AND c.site = s.site AND c.created_at < m.counted_until
            LIMIT 1
        ) IS NOT NULL AS is_of_changed
    FROM public.sessions s
    -- Between two bounds the planner expects few, and takes the index.
    WHERE s.month = m.month AND s.created_at >= m.counted_until AND s.created_at < 'infinity'
    UNION ALL
    SELECT c.site, c.monthly_user_hash, c.created_at,
        c.sessions * (NOT c.signed_in)::integer,
        c.sessions * c.signed_in::integer,
        c.sessions * (NOT c.signed_in AND c.created_at < m.tallied_until)::integer,
        c.sessions * (c.signed_in AND c.created_at < m.tallied_until)::integer,
        true, true
    FROM flusher.changes c
    WHERE c.month = m.month AND c.created_at < m.counted_until
    UNION ALL
    -- Counted, and not yet tallied: only of who is in a change.
    SELECT s.site, s.monthly_user_hash, s.created_at, 0, 0,
        (s.highest_role IS NULL)::integer, (s.highest_role IS NOT NULL)::integer, false, true
    FROM public.sessions s
    WHERE m.has_changes AND s.month = m.month
        AND s.created_at >= m.tallied_until AND s.created_at < m.counted_until
        AND (
            SELECT c.month FROM flusher.changes c
            WHERE c.month = m.month AND c.monthly_user_hash = s.monthly_user_hash
                AND c.site = s.site AND c.created_at < m.counted_until
            LIMIT 1
        ) IS NOT NULL
) r
-- One look-up each, by the hash: a join would read all people (LIMIT keeps it from being one).
LEFT JOIN LATERAL (
    SELECT q.ctid AS place, q.visitor_sessions, q.signed_in_sessions, q.came_as_visitor,
        q.came_signed_in
    FROM flusher.people q
    WHERE m.counted_until > '-infinity' AND q.month = m.month AND q.site = r.site
        AND q.monthly_user_hash = r.monthly_user_hash
    LIMIT 1
) p ON true;
