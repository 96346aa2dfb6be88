-- Makes the counts of a month what its sessions say. $1: the month.
INSERT INTO flusher.count_changes SELECT * FROM flusher.missing_counts($1::date)
