-- Adds keys, and returns those that are new. $1: the text of an array.
INSERT INTO keys_of_dry_run SELECT unnest($1::text::uuid[]) ON CONFLICT DO NOTHING RETURNING id
