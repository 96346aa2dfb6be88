-- Adds sessions to a run. $1: the run; $2: its name; $3, $4: months, and the number of new sessions in each.
INSERT INTO flusher.imports AS i (run, name, month, sessions)
SELECT $1, $2, month, sessions FROM unnest($3::date[], $4::bigint[]) AS n (month, sessions)
ON CONFLICT (run, month) DO UPDATE SET sessions = i.sessions + excluded.sessions
