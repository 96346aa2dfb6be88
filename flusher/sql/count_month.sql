SELECT flusher.count_month($1::date)
