-- Which of a visitor's sessions each upgrade is for, when some of them say `current`.
--
-- Works the visitor's upgrades off in the order in which they were requested, from the sessions as
-- they began, so that the result does not depend on the order in which they came. An upgrade by id
-- takes its session if that is still anonymous; one of `current` takes the newest that is, and may
-- have been handled a moment before the start that it follows (`tolerance`).
CREATE FUNCTION flusher.resolve_visitor(
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

    UPDATE flusher.upgrades u
    SET outcome = 'waiting', applied_to = NULL, replaced_hash = NULL
    FROM sessions s
    WHERE s.month = wanted_month AND s.site = wanted_site
        AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
        AND (u.applied_to = s.id OR u.session_id = s.id)
        AND u.site = wanted_site;

    FOR upgrade IN
        SELECT u.*
        FROM flusher.upgrades u
        WHERE u.site = wanted_site AND u.outcome <> 'applied' AND (
            (u.visitor_hash = wanted_hash AND u.month = wanted_month)
            OR (u.month >= wanted_month AND u.session_id IN (
                SELECT s.id FROM sessions s
                WHERE s.month = wanted_month AND s.site = wanted_site
                    AND s.monthly_user_hash = wanted_hash AND s.highest_role IS NULL
            ))
        )
        ORDER BY u.upgraded_at, u.id
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
COMMENT ON FUNCTION flusher.resolve_visitor IS
    'Decides anew which of a visitor''s sessions each upgrade is for.';
