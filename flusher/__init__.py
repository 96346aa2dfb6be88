"""Streams in, PostgreSQL out. The flusher owns the database's schema."""
