-- Which files of schema/ were applied. In databases made by earlier versions, this table is in the schema public.
CREATE SCHEMA IF NOT EXISTS flusher;
ALTER TABLE IF EXISTS public.impact_migrations SET SCHEMA flusher;
CREATE TABLE IF NOT EXISTS flusher.impact_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE flusher.impact_migrations IS 'Which steps of the schema this database has, and since when.';
