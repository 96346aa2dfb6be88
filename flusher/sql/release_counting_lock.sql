SELECT pg_advisory_unlock(hashtextextended('flusher.count', 0))
