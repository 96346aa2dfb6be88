-- Notes that salts were made, each once.
INSERT INTO flusher.salts (id, month, outcome, made_at)
SELECT * FROM unnest($1::uuid[], $2::date[], $3::text[], $4::timestamptz[])
ON CONFLICT (id) DO NOTHING
