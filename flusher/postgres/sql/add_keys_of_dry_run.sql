-- Adds keys ($1, as the text of an array), and returns those that are new.
INSERT INTO keys_of_dry_run SELECT unnest($1::text::uuid[]) ON CONFLICT DO NOTHING RETURNING id
