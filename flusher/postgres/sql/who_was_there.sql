-- What there is of a month: any session, and any that another run of an import has stored. $1: the month; $2: the run.
SELECT
    (SELECT true FROM sessions WHERE month = $1::date LIMIT 1) IS NOT NULL AS any,
    (SELECT true FROM flusher.imports WHERE month = $1::date AND run <> $2 AND sessions > 0 LIMIT 1) IS NOT NULL AS others
