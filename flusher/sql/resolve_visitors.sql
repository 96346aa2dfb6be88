-- Decides anew what the upgrades of each visitor are for whom a batch may have changed it, where some
-- of them are of `current`.
-- $1: upgrades of `current` that are new or released; $2: visitors' hashes, of sessions that are new
-- or were upgraded; $3: more sessions that were upgraded; $4: as in `flusher.resolve_visitor`.
-- Only by key, whatever the statistics say: docs/decisions/0011-by-key.md.
SELECT flusher.resolve_visitor(visitor.month, visitor.site, visitor.visitor_hash, $4::interval)
FROM (
    SELECT c.month, c.site, c.visitor_hash
    FROM (SELECT * FROM flusher.upgrades WHERE id = ANY ($1::uuid[]) OFFSET 0) c
    WHERE c.visitor_hash IS NOT NULL
    UNION
    SELECT c.month, c.site, c.visitor_hash
    FROM flusher.upgrades c
    WHERE c.visitor_hash = ANY ($2::uuid[])
    UNION
    SELECT c.month, c.site, c.visitor_hash
    FROM flusher.upgrades c
    WHERE c.visitor_hash = ANY (ARRAY(
        SELECT a.replaced_hash FROM flusher.upgrades a
        WHERE a.outcome = 'applied' AND a.session_id = ANY ($3::uuid[])
    ))
) visitor
