-- How many upgrades were given up in each month. $1: the first month; $2: a site, or null for all.
SELECT month, sum(upgrades)::bigint AS upgrades
FROM flusher.upgrades_given_up
WHERE month >= $1::date AND ($2::text IS NULL OR site = $2::text)
GROUP BY month
