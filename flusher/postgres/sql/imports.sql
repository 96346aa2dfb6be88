-- What imports have stored and was not undone. $1: their name, or null for all.
SELECT name, run, month, sessions FROM flusher.imports WHERE $1::text IS NULL OR name = $1
ORDER BY name, month, run
