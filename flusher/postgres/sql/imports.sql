-- What imports have stored and nobody has undone. $1: the name of some, or null for all.
SELECT name, run, month, sessions FROM flusher.imports WHERE $1::text IS NULL OR name = $1
ORDER BY name, month, run
