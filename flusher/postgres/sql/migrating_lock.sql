-- As try_migrating_lock, but waits for the other.
SELECT pg_advisory_xact_lock(hashtextextended('impact-tracking migrate', 0))
