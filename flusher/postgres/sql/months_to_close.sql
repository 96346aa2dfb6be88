-- Months that ended so long ($1) ago and are not closed; closed ones with times that are finer than is to be kept ($2).
SELECT m.month FROM flusher.months m CROSS JOIN flusher.state s
WHERE now() - $1::interval >= (m.month + interval '1 month') AT TIME ZONE s.timezone
    AND (m.closed_at IS NULL OR m.dropped_at IS NULL AND $2::text <> 'instant' AND coalesce(m.kept, '') NOT IN ($2, 'day'))
ORDER BY m.month
