SELECT site FROM monthly_impact ORDER BY month DESC, sessions DESC LIMIT 1
