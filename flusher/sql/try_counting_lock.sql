-- Of all flushers one counts at a time. Held until it is given back or the connection ends.
SELECT pg_try_advisory_lock(hashtextextended('flusher.count', 0))
