-- A session's row as it is, and what the analysts' view says of its site and month; none if there
-- is no such row (yet).
SELECT json_build_object('row', row_to_json(session), 'month', row_to_json(impact))
  FROM sessions AS session
  JOIN monthly_impact AS impact USING (site, month)
 WHERE session.id = $1
