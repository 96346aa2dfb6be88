-- Which files of schema/ were applied. Databases that were made earlier have it in the schema public, where analysts saw it.
CREATE SCHEMA IF NOT EXISTS flusher;
ALTER TABLE IF EXISTS public.impact_migrations SET SCHEMA flusher;
CREATE TABLE IF NOT EXISTS flusher.impact_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE flusher.impact_migrations IS 'Which steps of the schema this database has, and since when.';
