-- Makes the people of an open month those of its sessions. $1: the month; $2: sites, or null for all.
INSERT INTO flusher.people AS p (
    month, site, monthly_user_hash, visitor_sessions, signed_in_sessions, visitor_change,
    signed_in_change
)
SELECT $1::date, site, monthly_user_hash, visitor_sessions, signed_in_sessions, 0, 0
FROM flusher.missing_people($1::date, $2::text[])
ON CONFLICT (monthly_user_hash, site, month) DO UPDATE
SET visitor_sessions = p.visitor_sessions + excluded.visitor_sessions,
    signed_in_sessions = p.signed_in_sessions + excluded.signed_in_sessions
