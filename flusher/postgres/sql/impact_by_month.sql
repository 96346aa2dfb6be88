-- Each month's numbers. $1, $2: the first and the last month; $3: a site, or null for all.
SELECT
    month,
    sum(sessions)::bigint AS sessions,
    sum(unique_users)::bigint AS people,
    sum(signed_in_sessions)::bigint AS signed_in_sessions,
    sum(unique_signed_in_users)::bigint AS signed_in_people
FROM monthly_impact
WHERE month BETWEEN $1::date AND $2::date AND ($3::text IS NULL OR site = $3::text)
GROUP BY month
ORDER BY month
