SELECT name FROM flusher.impact_migrations
