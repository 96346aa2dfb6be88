SELECT EXISTS (SELECT FROM monthly_impact WHERE site = $1::text)
