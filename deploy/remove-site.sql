-- Takes a site that should not be there out of the sessions and out of all counts:
--   psql "$DATABASE_URL" -v site=junk.example.com -f deploy/remove-site.sql
-- As impact_flusher or impact_owner. What is still in the streams comes later: name your sites in SITES
-- first, and wait until `python -m flusher status` shows none.
\set ON_ERROR_STOP on
BEGIN;
-- Until the commit no flusher stores sessions or adds counts up; they wait that long.
SELECT pg_advisory_xact_lock(hashtextextended('flusher.fold', 0)),
    pg_advisory_xact_lock(hashtextextended('flusher.sessions', 0)) \g /dev/null
DELETE FROM sessions WHERE site = :'site';
DELETE FROM flusher.upgrades WHERE site = :'site';
DELETE FROM flusher.upgrades_given_up WHERE site = :'site';
DELETE FROM flusher.people WHERE site = :'site';
DELETE FROM flusher.count_changes WHERE site = :'site';
DELETE FROM flusher.monthly_counts WHERE site = :'site';
DELETE FROM flusher.daily_counts WHERE site = :'site';
DELETE FROM flusher.recounts WHERE site = :'site';
COMMIT;
