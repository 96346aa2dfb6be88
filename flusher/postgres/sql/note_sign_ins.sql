-- Stores the digests of sign-ins, except for closed months, and counts the new ones. Runs under `Lock.UPGRADES`.
-- The order of the rows is that of the digests, so that it does not show which ones belong together.
-- $1, $2: months and sites; $3 to $5: digests of the pairs, users and visitors.
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
INSERT INTO flusher.quality_counts AS q (month, site, kind, number)
SELECT month, site, kind, count(*) FROM new GROUP BY month, site, kind
ON CONFLICT (month, site, kind) DO UPDATE SET number = q.number + excluded.number
