-- Closes months for good: nothing of them is on its way. $1: the months. Returns those that it closed.
UPDATE flusher.months SET closed_at = now() WHERE month = ANY ($1::date[]) AND closed_at IS NULL RETURNING month
