"""What the views must show: the same, counted from the sessions alone."""

from datetime import date

import asyncpg

_LIVE = {
    "monthly_impact": """
        SELECT month, site, count(*) AS sessions,
            count(DISTINCT monthly_user_hash) AS unique_users,
            count(*) FILTER (WHERE highest_role IS NOT NULL) AS signed_in_sessions,
            count(DISTINCT monthly_user_hash) FILTER (WHERE highest_role IS NOT NULL)
                AS unique_signed_in_users,
            count(*) FILTER (WHERE highest_role IS NULL) AS visitor_sessions,
            count(DISTINCT monthly_user_hash) FILTER (WHERE highest_role IS NULL)
                AS unique_visitors
        FROM sessions GROUP BY month, site""",
    "daily_impact": """
        SELECT (s.created_at AT TIME ZONE c.timezone)::date AS day, s.site, count(*) AS sessions,
            count(*) FILTER (WHERE s.highest_role IS NOT NULL) AS signed_in_sessions,
            count(*) FILTER (WHERE s.highest_role IS NULL) AS visitor_sessions
        FROM sessions s CROSS JOIN flusher.state c GROUP BY day, s.site""",
}


async def check_views(
    connection: asyncpg.Connection, dropped: date | None = None
) -> list[asyncpg.Record]:
    """Compares both views with the sessions, seen at one moment; returns the views' rows.

    But for the month `dropped`, whose sessions are gone.
    """
    for view, live in _LIVE.items():
        month = "month" if view == "monthly_impact" else "date_trunc('month', day)::date"
        differences = await connection.fetch(
            f"WITH live AS ({live}), "
            f"shown AS (SELECT * FROM {view} WHERE {month} IS DISTINCT FROM $1::date) "
            "(SELECT 'shown' AS by, to_jsonb(a) AS row "
            "FROM (SELECT * FROM shown EXCEPT ALL SELECT * FROM live) a) UNION ALL "
            "(SELECT 'live', to_jsonb(b) "
            "FROM (SELECT * FROM live EXCEPT ALL SELECT * FROM shown) b)",
            dropped,
        )
        assert differences == [], (view, differences)
    return list(
        await connection.fetch(
            "SELECT to_jsonb(m) FROM monthly_impact m UNION ALL "
            "SELECT to_jsonb(d) FROM daily_impact d ORDER BY 1"
        )
    )
