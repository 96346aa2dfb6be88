UPDATE flusher.state SET checked_at = now()
