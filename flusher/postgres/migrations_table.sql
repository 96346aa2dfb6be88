CREATE SCHEMA IF NOT EXISTS flusher;
CREATE TABLE IF NOT EXISTS flusher.impact_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE flusher.impact_migrations IS 'Which files of the schema were applied, and when.';
