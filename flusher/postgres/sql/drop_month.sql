SELECT flusher.drop_month($1::date)
