-- The site $1, or where it is not there another, for an example.
SELECT site FROM monthly_impact ORDER BY site = $1::text DESC, month DESC, sessions DESC LIMIT 1
