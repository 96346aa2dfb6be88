-- $1: upgrades; $2 to $4: their new outcome, the session that each took, and the hash that it replaced there.
UPDATE flusher.upgrades u
SET outcome = n.outcome, applied_to = n.applied_to, replaced_hash = n.replaced_hash
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[]) AS n (id, outcome, applied_to, replaced_hash)
WHERE u.id = ANY (ARRAY[n.id])
