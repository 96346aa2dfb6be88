-- The first day that has a session. $1: a site, or null for all.
SELECT min(day) FROM daily_impact WHERE $1::text IS NULL OR site = $1::text
