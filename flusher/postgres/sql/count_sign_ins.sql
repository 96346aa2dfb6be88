INSERT INTO flusher.quality_counts AS q (month, site, kind, number)
SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::bigint[])
ON CONFLICT (month, site, kind) DO UPDATE SET number = q.number + excluded.number
