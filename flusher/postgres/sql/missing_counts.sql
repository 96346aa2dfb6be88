-- Where the kept counts of a month fall short of its sessions. $1: the month.
SELECT * FROM flusher.missing_counts($1::date) ORDER BY site, whole_month DESC, day
