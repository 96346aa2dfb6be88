SELECT flusher.resolve_visitor($1::date, $2::text, $3::uuid, $4::interval)
