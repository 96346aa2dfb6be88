SELECT flusher.tally_month($1::date)
