-- Whether a month ($1) has any session, and whether another run than $2 has imported sessions into it.
SELECT
    (SELECT true FROM sessions WHERE month = $1::date LIMIT 1) IS NOT NULL AS any,
    (SELECT true FROM flusher.imports WHERE month = $1::date AND run <> $2 AND sessions > 0 LIMIT 1) IS NOT NULL AS others
