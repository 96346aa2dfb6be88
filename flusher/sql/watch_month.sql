SELECT flusher.watch_month($1::date, $2::timestamptz)
