-- Makes the counts of a month ($1) those of its sessions.
INSERT INTO flusher.count_changes SELECT * FROM flusher.missing_counts($1::date)
