SELECT flusher.close_month($1::date, $2)
