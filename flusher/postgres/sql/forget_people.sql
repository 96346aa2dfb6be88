-- Forgets who has no session left. $1, $2, $3: month, site, hash. Only by key:
-- docs/decisions/0006-kept-counts.md.
DELETE FROM flusher.people p
USING unnest($1::date[], $2::text[], $3::uuid[]) AS gone (month, site, hash)
WHERE p.monthly_user_hash = ANY (ARRAY[gone.hash]) AND p.site = gone.site AND p.month = gone.month
    AND p.visitor_sessions = 0 AND p.signed_in_sessions = 0
