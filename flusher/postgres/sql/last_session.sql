-- When the newest stored session began; the newest month's partition alone is read.
SELECT max(created_at) FROM sessions WHERE month = (SELECT max(month) FROM sessions)
