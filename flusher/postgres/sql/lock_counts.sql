-- From here to the commit nobody else makes counts again: both would add what is missing.
SELECT pg_advisory_xact_lock(hashtextextended('flusher.counts', 0))
