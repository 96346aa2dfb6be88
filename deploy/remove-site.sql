-- Takes a site that should not be there out of the sessions and out of all counts:
--   psql "$DATABASE_URL" -v site=junk.example.com -f deploy/remove-site.sql
-- As impact_flusher or impact_owner. What is still in the streams comes later: name your sites in SITES
-- first, and wait until `python -m flusher status` shows none.
\set ON_ERROR_STOP on
BEGIN;
-- Until the commit no flusher stores sessions or adds counts up; they wait that long.
SELECT pg_advisory_xact_lock(hashtextextended('flusher.fold', 0)),
    pg_advisory_xact_lock(hashtextextended('flusher.sessions', 0)) \g /dev/null
-- From each table that tells sites apart.
SELECT format('DELETE FROM %s WHERE site = %L', t.oid::regclass, :'site')
FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'site'
WHERE t.relkind IN ('r', 'p') AND NOT t.relispartition
    AND (t.relnamespace = 'flusher'::regnamespace OR t.oid = 'public.sessions'::regclass)
ORDER BY 1 \gexec
COMMIT;
