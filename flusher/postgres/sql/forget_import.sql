-- Forgets a month of a run that was taken back, and returns how many of its sessions were not there. $1: the run; $2: the month.
DELETE FROM flusher.imports WHERE run = $1 AND month = $2::date RETURNING sessions
