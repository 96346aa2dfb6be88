-- $1: months; $2: sites; $3: the number of dead letters of each.
INSERT INTO flusher.dead_letters (month, site, letters) SELECT * FROM unnest($1::date[], $2::text[], $3::bigint[])
