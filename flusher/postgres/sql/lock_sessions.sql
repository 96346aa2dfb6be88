-- From here to the commit nobody else stores sessions.
SELECT pg_advisory_xact_lock(hashtextextended('flusher.sessions', 0))
