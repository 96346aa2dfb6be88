-- In microseconds since the epoch; an error if the database is not migrated.
SELECT (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint FROM flusher.state
