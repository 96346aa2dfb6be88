-- One month of sessions for bench/speed/reports.py: each person has about three, a fifth of the
-- people are signed in.
-- $1: the month; $2: sessions; $3: sites; $4: the month's number; $5, $6: its span.
INSERT INTO sessions (id, month, site, monthly_user_hash, highest_role, created_at)
SELECT
    (lpad(to_hex($4::bigint * 4294967296 + g), 16, '0') || '8000' || lpad(to_hex(g), 12, '0'))::uuid,
    $1::date,
    'city-' || g % $3::int || '.example.org',
    md5($1::date || ' ' || g % $3::int || ' ' || g / $3::int % people)::uuid,
    CASE WHEN g / $3::int % people % 5 = 0 THEN 'user' END,
    $5::timestamptz + ($6::timestamptz - $5::timestamptz) * (g::float / $2::bigint)
FROM generate_series(0, $2::bigint - 1) g,
    LATERAL (SELECT greatest($2::bigint / $3::int / 3, 1) + g % $3::int % 7 AS people) p
