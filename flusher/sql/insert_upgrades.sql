-- Stores upgrades, each once: an id that is known is a repeat. Returns the ids that are new.
INSERT INTO flusher.upgrades
    (id, session_id, visitor_hash, month, site, user_hash, highest_role, upgraded_at)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::date[], $5::text[], $6::uuid[], $7::text[],
    $8::timestamptz[]
)
ON CONFLICT (id) DO NOTHING
RETURNING id
