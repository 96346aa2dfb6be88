-- Sets the time zone ($1). Returns true if it was another one, so that the days have to be counted again.
UPDATE flusher.calendar SET timezone = $1 WHERE timezone <> $1 RETURNING true
