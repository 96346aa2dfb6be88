-- From here to the commit one flusher at a time: of a session and its upgrade that two of them
-- store at the same moment, the second to come here sees the first.
SELECT pg_advisory_xact_lock(hashtextextended('flusher.upgrades', 0))
