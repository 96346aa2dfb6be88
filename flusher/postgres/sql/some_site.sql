-- An example of a site: $1 if it exists, else another one.
SELECT site FROM monthly_impact ORDER BY site = $1::text DESC, month DESC, sessions DESC LIMIT 1
