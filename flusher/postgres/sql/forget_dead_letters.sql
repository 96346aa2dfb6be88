DELETE FROM flusher.dead_letters
