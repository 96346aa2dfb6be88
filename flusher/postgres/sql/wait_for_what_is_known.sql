-- Makes this transaction's commit wait for the replicas as one that writes does. What a batch finds
-- known may be committed here and nowhere else: by a transaction whose wait for synchronous
-- replication was cut short. Without anything written there would be no wait, and the entries would
-- be deleted whose rows a failover forgets.
SELECT pg_logical_emit_message(true, 'impact-tracking', '')
