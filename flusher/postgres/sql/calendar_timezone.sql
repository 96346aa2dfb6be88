-- Whose calendar counts, as `migrate` has set it.
SELECT timezone FROM flusher.calendar
