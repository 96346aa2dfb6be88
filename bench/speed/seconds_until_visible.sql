-- From a session's request to its row's commit, by PostgreSQL's own record of commits
-- (track_commit_timestamp): the 99th percentile in seconds.
SELECT
    percentile_cont(0.99) WITHIN GROUP (
        ORDER BY extract(epoch FROM pg_xact_commit_timestamp(sessions.xmin) - created_at)
    )::float8
FROM sessions;
