-- Until the commit, a statement may only take an eighth of its usual time.
SELECT set_config(name, (setting::integer / 8)::text, true)
FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout')
