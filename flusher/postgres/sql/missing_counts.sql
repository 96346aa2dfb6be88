-- $1: the month.
SELECT * FROM flusher.missing_counts($1::date) ORDER BY site, whole_month DESC, day
