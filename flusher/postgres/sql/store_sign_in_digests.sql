-- Stores the digests of sign-ins, except for closed months. Returns how many of each kind are new.
-- The order of the rows is that of the digests: it does not show which ones belong together, and no two batches wait
-- for each other. $1, $2: months and sites; $3 to $5: digests of the pairs, users and visitors.
WITH new AS (
    INSERT INTO flusher.sign_in_digests (month, site, kind, digest)
    SELECT s.month, s.site, d.kind, d.digest
    FROM unnest($1::date[], $2::text[], $3::uuid[], $4::uuid[], $5::uuid[]) AS s (month, site, of_pair, of_user, of_visitor)
    CROSS JOIN LATERAL (VALUES ('pair', s.of_pair), ('user', s.of_user), ('visitor', s.of_visitor)) AS d (kind, digest)
    WHERE (SELECT m.closed_at FROM flusher.months m WHERE m.month = s.month) IS NULL
    ORDER BY d.digest
    ON CONFLICT DO NOTHING
    RETURNING month, site, kind
)
SELECT month, site, kind, count(*) FROM new GROUP BY month, site, kind
