SELECT
    current_setting('fsync') AS fsync,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('full_page_writes') AS full_page_writes,
    extract(EPOCH FROM clock_timestamp()) AS seconds,
    (SELECT timezone FROM flusher.calendar) AS calendar
