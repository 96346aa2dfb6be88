-- Sets whose calendar counts; whether it is another one now, by which the days are to be counted anew.
-- $1: the time zone.
UPDATE flusher.calendar SET timezone = $1 WHERE timezone <> $1 RETURNING true
