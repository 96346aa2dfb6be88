-- Retention (SESSIONS_KEPT_MONTHS): a month's sessions go, its counts stay.

-- Drops a month's sessions, if they are counted and nothing has changed since. Returns whether it did.
CREATE FUNCTION flusher.drop_month(dropped date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- First: while it is held nobody writes, so that what is seen below stays so.
    LOCK TABLE public.sessions IN ACCESS EXCLUSIVE MODE;
    UPDATE flusher.counted_months SET dropped_at = now()
    WHERE month = dropped AND counted_until = 'infinity' AND dropped_at IS NULL
        AND NOT EXISTS (SELECT FROM flusher.changes c WHERE c.month = dropped);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE flusher.%I', 'sessions_' || to_char(dropped, 'YYYY_MM'));
    RETURN true;
END
$$;
COMMENT ON FUNCTION flusher.drop_month IS
    'Drops the sessions of a closed month; its counts are kept for good.';
