-- How many sites there are in the months from $1 on.
SELECT count(DISTINCT site) FROM monthly_impact WHERE month >= $1::date
