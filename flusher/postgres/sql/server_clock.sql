-- In microseconds since the epoch.
SELECT (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint
