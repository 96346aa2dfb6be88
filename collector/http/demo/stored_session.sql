-- A session's row, and the row of monthly_impact for its site and month. No result if the session
-- has no row yet.
SELECT json_build_object('row', row_to_json(session), 'month', row_to_json(impact))
  FROM sessions AS session
  JOIN monthly_impact AS impact USING (site, month)
 WHERE session.id = $1
