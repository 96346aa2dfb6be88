INSERT INTO flusher.impact_migrations (name) VALUES ($1)
