-- One month of sessions whose counts are known by construction (bench/speed/known_sessions.py).
-- $1: the month; $2: sessions on each site; $3: sites; $4: the month's number; $5, $6: its span.
INSERT INTO sessions (id, month, site, monthly_user_hash, highest_role, created_at)
SELECT
    (lpad(to_hex($4::bigint * 4294967296 + g), 16, '0') || '8000' || lpad(to_hex(g), 12, '0'))::uuid,
    $1::date,
    'site' || g % $3::int || '.example.org',
    md5($1::date || ' ' || g % $3::int || ' ' || g / $3::int % people)::uuid,
    CASE WHEN g / $3::int % people % 5 = 0 THEN 'user' END,
    $5::timestamptz + ($6::timestamptz - $5::timestamptz) * (g::float / ($2::bigint * $3::int))
FROM generate_series(0, $2::bigint * $3::int - 1) g,
    LATERAL (SELECT greatest($2::bigint / 3, 1) + g % $3::int % 7 AS people) p
