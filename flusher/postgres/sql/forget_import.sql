-- After an undo: deletes the entry of a run ($1) and a month ($2). Returns how many sessions were not found.
DELETE FROM flusher.imports WHERE run = $1 AND month = $2::date RETURNING sessions
