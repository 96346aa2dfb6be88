-- Deletes a site from the sessions and from all counts:
--   psql "$DATABASE_URL" -v site=junk.example.com -f deploy/remove-site.sql
-- As impact_flusher or impact_owner. Sessions that are still in the streams would come back: first set SITES,
-- and wait until `python -m flusher status` shows no entries.
\set ON_ERROR_STOP on
BEGIN;
-- Until the commit, flushers wait: they store no sessions and add up no counts.
SELECT pg_advisory_xact_lock(hashtextextended('flusher.fold', 0)),
    pg_advisory_xact_lock(hashtextextended('flusher.sessions', 0)) \g /dev/null
-- Each table with a column `site`.
SELECT format('DELETE FROM %s WHERE site = %L', t.oid::regclass, :'site')
FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'site'
WHERE t.relkind IN ('r', 'p') AND NOT t.relispartition
    AND (t.relnamespace = 'flusher'::regnamespace OR t.oid = 'public.sessions'::regclass)
ORDER BY 1 \gexec
COMMIT;
