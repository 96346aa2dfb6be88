INSERT INTO flusher.dead_letters (month, site, letters) VALUES ($1, $2, $3)
