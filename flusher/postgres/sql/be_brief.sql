-- From here to the commit no statement may take more than an eighth of the time that it usually may.
SELECT set_config(name, (setting::integer / 8)::text, true)
FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout')
