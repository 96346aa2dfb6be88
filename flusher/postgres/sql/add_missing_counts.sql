-- Makes the counts of a month what its sessions say. $1: the month.
INSERT INTO flusher.count_changes (
    month, day, site, visitor_sessions, signed_in_sessions, unique_users, unique_signed_in_users, unique_visitors
)
SELECT $1::date, * FROM flusher.missing_counts($1::date)
