-- The sessions that a dry run would have stored so far: the lowest id that each may have.
CREATE TEMPORARY TABLE keys_of_dry_run (id uuid PRIMARY KEY)
