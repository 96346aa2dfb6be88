-- Of all flushers one adds up at a time; whether it is this one, to the commit.
SELECT pg_try_advisory_xact_lock(hashtextextended('flusher.fold', 0))
