-- $1: a site, or null for all.
SELECT * FROM monthly_impact WHERE $1::text IS NULL OR site = $1::text
