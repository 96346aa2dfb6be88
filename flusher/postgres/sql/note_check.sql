INSERT INTO flusher.checks (held_at) VALUES (now())
ON CONFLICT (only_row) DO UPDATE SET held_at = excluded.held_at
