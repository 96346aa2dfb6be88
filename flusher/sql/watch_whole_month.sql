SELECT flusher.watch_month($1::date, 'infinity')
