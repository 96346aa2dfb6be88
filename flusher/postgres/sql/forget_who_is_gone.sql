-- Forgets who has no session left in a month. $1: the month.
DELETE FROM flusher.people
WHERE month = $1::date AND visitor_sessions = 0 AND signed_in_sessions = 0
