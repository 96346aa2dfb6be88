-- Makes the commit wait for the replicas, even if this transaction writes nothing. What it found in the database may be
-- committed here and not yet on a replica, if another transaction's wait for synchronous replication was cut short.
-- Without this wait, entries would be deleted whose rows a failover loses.
SELECT pg_logical_emit_message(true, 'impact-tracking', '')
