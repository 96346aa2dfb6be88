-- $1: the month; $2: the sites.
DELETE FROM flusher.recounts WHERE month = $1::date AND site = ANY ($2::text[])
