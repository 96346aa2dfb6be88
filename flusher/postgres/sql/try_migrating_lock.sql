-- Of all that migrate one at a time; false: another does. To the end of the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('impact-tracking migrate', 0))
