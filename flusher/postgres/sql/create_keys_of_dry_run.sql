-- What a dry run would have stored so far: the first id that each session may have.
CREATE TEMPORARY TABLE keys_of_dry_run (id uuid PRIMARY KEY)
