-- An upgrade by id costs the table of upgrades an entry in each of its indexes. Two of them serve
-- upgrades of `current` alone, and are from here on made for those.

-- An upgrade by id is applied to the session that it names, and found by that.
DROP INDEX flusher.upgrades_by_applied_to;
CREATE INDEX upgrades_of_current_by_applied_to ON flusher.upgrades (applied_to)
    WHERE session_id IS NULL AND applied_to IS NOT NULL;

-- Made anew by flusher.index_visitors, when the first upgrade of `current` comes.
DROP INDEX flusher.upgrades_by_replaced_hash;

CREATE OR REPLACE FUNCTION flusher.index_visitors(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition_name text := 'sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    -- Asked for first: even where the index is there, CREATE INDEX waits for who writes.
    IF to_regclass('flusher.upgrades_by_replaced_hash') IS NULL THEN
        CREATE INDEX upgrades_by_replaced_hash ON flusher.upgrades (replaced_hash)
            WHERE replaced_hash IS NOT NULL;
    END IF;
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON flusher.%I (monthly_user_hash) '
        'WHERE highest_role IS NULL',
        partition_name || '_visitors', partition_name
    );
END
$$;

CREATE OR REPLACE FUNCTION flusher.resolve_visitor(
    wanted_month date, wanted_site text, wanted_hash uuid, tolerance interval
) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    upgrade flusher.upgrades;
    target uuid;
BEGIN
    -- As they began.
    UPDATE sessions s
    SET monthly_user_hash = wanted_hash, highest_role = NULL, upgraded_at = NULL
    FROM flusher.upgrades a
    WHERE a.replaced_hash = wanted_hash AND a.site = wanted_site
        AND s.id = a.applied_to AND s.month = wanted_month AND s.site = wanted_site;

    -- In two, since each has an index of its own.
    UPDATE flusher.upgrades u
    SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
    FROM sessions s
    WHERE s.month = wanted_month AND s.site = wanted_site
        AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
        AND u.session_id = s.id AND u.site = wanted_site;

    UPDATE flusher.upgrades u
    SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
    FROM sessions s
    WHERE s.month = wanted_month AND s.site = wanted_site
        AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
        AND u.session_id IS NULL AND u.applied_to = s.id AND u.site = wanted_site;

    FOR upgrade IN
        SELECT u.*
        FROM flusher.upgrades u
        WHERE u.visitor_hash = wanted_hash AND u.month = wanted_month
            AND u.site = wanted_site AND u.outcome <> 'applied'
        UNION ALL
        SELECT u.*
        FROM sessions s
        JOIN flusher.upgrades u ON u.session_id = s.id
        WHERE s.month = wanted_month AND s.site = wanted_site
            AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
            AND u.month >= wanted_month AND u.site = wanted_site AND u.outcome <> 'applied'
        ORDER BY upgraded_at, id
    LOOP
        SELECT s.id INTO target
        FROM sessions s
        WHERE s.month = wanted_month AND s.site = wanted_site
            AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
            AND CASE WHEN upgrade.session_id IS NULL
                THEN s.created_at <= upgrade.upgraded_at + tolerance
                ELSE s.id = upgrade.session_id END
        ORDER BY s.created_at DESC, s.id DESC
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
