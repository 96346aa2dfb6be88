-- The visitors with upgrades of `current` that a batch may have changed.
-- $1: upgrades new in it or released; $2: hashes of its anonymous sessions; $3: sessions upgraded.
SELECT DISTINCT c.month, c.site, c.visitor_hash
FROM flusher.upgrades c
WHERE c.visitor_hash IS NOT NULL AND (
    c.id = ANY ($1::uuid[])
    OR c.visitor_hash = ANY ($2::uuid[])
    OR c.visitor_hash IN (
        SELECT a.replaced_hash FROM flusher.upgrades a WHERE a.applied_to = ANY ($3::uuid[])
    )
)
