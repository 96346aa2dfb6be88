-- When the newest session began. Reads only the newest month's partition.
SELECT max(created_at) FROM sessions WHERE month = (SELECT max(month) FROM sessions)
