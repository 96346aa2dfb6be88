-- From here to the commit no batch is merged (`lock_sessions`): of two that wait for each other, one
-- for the other's rows and one for `lock_upgrades`, PostgreSQL would end one, after a second.
SELECT pg_advisory_xact_lock_shared(hashtextextended('flusher.sessions', 0))
