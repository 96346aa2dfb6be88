-- What the promises rest upon, and the server's clock.
SELECT
    current_setting('fsync') AS fsync,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('full_page_writes') AS full_page_writes,
    extract(EPOCH FROM clock_timestamp()) AS seconds
