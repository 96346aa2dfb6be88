-- As before, but the visitor's sessions are found before the newest of them is chosen. Where PostgreSQL
-- took many sessions for the visitor's, since a month had been analysed while it was small, it read the
-- month backwards instead, until it met one (docs/decisions/0011-by-key.md).
CREATE OR REPLACE FUNCTION flusher.resolve_visitor(
    wanted_month date, wanted_site text, wanted_hash uuid, tolerance interval
) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    anonymous uuid[];
    upgrade flusher.upgrades;
    target uuid;
BEGIN
    -- As they began.
    UPDATE sessions s
    SET monthly_user_hash = wanted_hash, highest_role = NULL, upgraded_at = NULL
    FROM flusher.upgrades a
    WHERE a.replaced_hash = wanted_hash AND a.site = wanted_site
        AND s.id = ANY (ARRAY[a.applied_to]) AND s.month = wanted_month AND s.site = wanted_site;

    anonymous := ARRAY(
        SELECT s.id FROM sessions s
        WHERE s.month = wanted_month AND s.site = wanted_site
            AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
    );

    -- In two, since each has an index of its own.
    UPDATE flusher.upgrades u
    SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
    WHERE u.session_id = ANY (anonymous) AND u.site = wanted_site;

    UPDATE flusher.upgrades u
    SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
    WHERE u.session_id IS NULL AND u.applied_to = ANY (anonymous) AND u.site = wanted_site;

    FOR upgrade IN
        SELECT u.*
        FROM flusher.upgrades u
        WHERE u.visitor_hash = wanted_hash AND u.month = wanted_month
            AND u.site = wanted_site AND u.outcome <> 'applied'
        UNION ALL
        SELECT u.*
        FROM flusher.upgrades u
        WHERE u.session_id = ANY (anonymous)
            AND u.month >= wanted_month AND u.site = wanted_site AND u.outcome <> 'applied'
        ORDER BY upgraded_at, id
    LOOP
        SELECT m.id INTO target
        FROM (
            SELECT s.id, s.created_at
            FROM sessions s
            WHERE s.month = wanted_month AND s.site = wanted_site
                AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
                AND CASE WHEN upgrade.session_id IS NULL
                    THEN s.created_at <= upgrade.upgraded_at + tolerance
                    ELSE s.id = upgrade.session_id END
            OFFSET 0
        ) m
        ORDER BY m.created_at DESC, m.id DESC
        LIMIT 1;

        IF FOUND THEN
            UPDATE sessions s
            SET highest_role = upgrade.highest_role,
                upgraded_at = upgrade.upgraded_at,
                monthly_user_hash = CASE WHEN upgrade.month = wanted_month
                    THEN upgrade.user_hash ELSE s.monthly_user_hash END
            WHERE s.id = target AND s.month = wanted_month;
            UPDATE flusher.upgrades u
            SET outcome = 'applied', applied_to = target, replaced_hash = wanted_hash
            WHERE u.id = upgrade.id;
        ELSIF upgrade.session_id IS NOT NULL THEN
            UPDATE flusher.upgrades u SET outcome = 'superseded' WHERE u.id = upgrade.id;
        END IF;
    END LOOP;
END
$$;
