-- Counts that are kept, so that reports are fast over years and exact at every moment
-- (docs/decisions/0006-kept-counts.md).
--
-- Each month has a line, `counted_until`. Sessions that began before it are in the kept counts; those
-- that began after it are counted when somebody looks. A change below the line (a session that comes
-- late, an upgrade, a deletion) is noted in `changes` by a trigger, in the transaction that makes it.
-- So at any moment
--
--     all that happened = kept counts + changes below the line + sessions above the line
--
-- and a reader, who sees one moment, sees all three terms as of that moment. The current month's line
-- follows the clock. A closed month's is at infinity: it is read from the kept counts alone, but for
-- the sites that have changes, which are counted again.

CREATE TABLE flusher.counted_months (
    month date PRIMARY KEY,
    counted_until timestamptz NOT NULL DEFAULT '-infinity',
    watched_until timestamptz NOT NULL DEFAULT '-infinity',
    dropped_at timestamptz,
    CONSTRAINT what_is_counted_is_watched CHECK (counted_until <= watched_until),
    CONSTRAINT only_closed_months_are_dropped
        CHECK (dropped_at IS NULL OR counted_until = 'infinity')
);
COMMENT ON TABLE flusher.counted_months IS
    'How far each month''s sessions are in the kept counts: one row for each month there ever was.';
COMMENT ON COLUMN flusher.counted_months.month IS 'The month, as its first day.';
COMMENT ON COLUMN flusher.counted_months.counted_until IS
    'The line: sessions that began before it are in the kept counts. -infinity: none; infinity: '
    'the month is closed.';
COMMENT ON COLUMN flusher.counted_months.watched_until IS
    'Changes of sessions that began before this are noted in flusher.changes.';
COMMENT ON COLUMN flusher.counted_months.dropped_at IS
    'When the month''s sessions were dropped, and only its counts kept.';

CREATE TABLE flusher.monthly_counts (
    site text NOT NULL,
    month date NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    unique_users bigint NOT NULL,
    unique_signed_in_users bigint NOT NULL,
    unique_visitors bigint NOT NULL,
    PRIMARY KEY (site, month)
);
COMMENT ON TABLE flusher.monthly_counts IS
    'The kept counts of each site and month, below the month''s line: read monthly_impact instead.';
COMMENT ON COLUMN flusher.monthly_counts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.monthly_counts.month IS 'The month, as its first day.';
COMMENT ON COLUMN flusher.monthly_counts.visitor_sessions IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.signed_in_sessions IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_users IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_signed_in_users IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_visitors IS 'As in monthly_impact.';

CREATE TABLE flusher.daily_counts (
    site text NOT NULL,
    month date NOT NULL,
    day date NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    PRIMARY KEY (site, month, day)
);
COMMENT ON TABLE flusher.daily_counts IS
    'The kept counts of each site and day, below the month''s line: read daily_impact instead.';
COMMENT ON COLUMN flusher.daily_counts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.daily_counts.month IS 'The month that the sessions count in.';
COMMENT ON COLUMN flusher.daily_counts.day IS 'The calendar day.';
COMMENT ON COLUMN flusher.daily_counts.visitor_sessions IS 'As in daily_impact.';
COMMENT ON COLUMN flusher.daily_counts.signed_in_sessions IS 'As in daily_impact.';

-- Who is in the kept counts of a month that is not closed: without it nobody could tell whether a
-- session above the line is somebody's first. Emptied of a month when it is closed.
CREATE TABLE flusher.people (
    month date NOT NULL,
    site text NOT NULL,
    monthly_user_hash uuid NOT NULL,
    visitor_sessions integer NOT NULL,
    signed_in_sessions integer NOT NULL,
    PRIMARY KEY (month, site, monthly_user_hash)
)
WITH (fillfactor = 90);
COMMENT ON TABLE flusher.people IS
    'How often each person came below the line, for the months that are not closed.';
COMMENT ON COLUMN flusher.people.month IS 'The month, as its first day.';
COMMENT ON COLUMN flusher.people.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.people.monthly_user_hash IS 'As in sessions.';
COMMENT ON COLUMN flusher.people.visitor_sessions IS 'How many of the sessions nobody signed in in.';
COMMENT ON COLUMN flusher.people.signed_in_sessions IS 'How many of the sessions were a user''s.';

CREATE TABLE flusher.changes (
    month date NOT NULL,
    site text NOT NULL,
    monthly_user_hash uuid NOT NULL,
    created_at timestamptz NOT NULL,
    signed_in boolean NOT NULL,
    sessions smallint NOT NULL
);
CREATE INDEX changes_by_month ON flusher.changes (month, site);
COMMENT ON TABLE flusher.changes IS
    'What was added below the line, or taken away, since the counts below it were made.';
COMMENT ON COLUMN flusher.changes.month IS 'The month of the session, as its first day.';
COMMENT ON COLUMN flusher.changes.site IS 'The site of the session.';
COMMENT ON COLUMN flusher.changes.monthly_user_hash IS 'Whose session it is, or was.';
COMMENT ON COLUMN flusher.changes.created_at IS 'When the session began.';
COMMENT ON COLUMN flusher.changes.signed_in IS 'Whether it is, or was, a signed-in user''s.';
COMMENT ON COLUMN flusher.changes.sessions IS '1: there is such a session now; -1: no longer.';

-- An update takes the session as it was away, and adds it as it is.
CREATE FUNCTION flusher.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO flusher.changes
        VALUES (OLD.month, OLD.site, OLD.monthly_user_hash, OLD.created_at,
            OLD.highest_role IS NOT NULL, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO flusher.changes
        VALUES (NEW.month, NEW.site, NEW.monthly_user_hash, NEW.created_at,
            NEW.highest_role IS NOT NULL, 1);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION flusher.note_change IS 'Notes what changes below a month''s line.';

-- Forgets a month's kept counts: it is counted when somebody looks, until it is counted anew.
CREATE FUNCTION flusher.forget_counts(forgotten date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The row first: it is what whoever counts this month holds or waits for.
    UPDATE flusher.counted_months SET counted_until = '-infinity' WHERE month = forgotten;
    DELETE FROM flusher.monthly_counts WHERE month = forgotten;
    DELETE FROM flusher.daily_counts WHERE month = forgotten;
    DELETE FROM flusher.people WHERE month = forgotten;
END
$$;
COMMENT ON FUNCTION flusher.forget_counts IS 'Forgets a month''s kept counts.';

CREATE FUNCTION flusher.note_truncation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM flusher.forget_counts(to_date(right(TG_TABLE_NAME, 7), 'YYYY_MM'));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION flusher.note_truncation IS 'Forgets the kept counts of a month that was emptied.';

-- Days are those of the calendar: with another one, each day's count is another.
CREATE FUNCTION flusher.note_other_calendar() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM flusher.forget_counts(month) FROM flusher.counted_months WHERE dropped_at IS NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION flusher.note_other_calendar IS 'Forgets kept counts that another calendar made.';
CREATE TRIGGER another_calendar AFTER UPDATE ON flusher.calendar
    FOR EACH ROW WHEN (OLD.timezone IS DISTINCT FROM NEW.timezone)
    EXECUTE FUNCTION flusher.note_other_calendar();

-- What a partition needs to be counted. The index finds what is above the line; it is dropped when the
-- month is closed.
CREATE FUNCTION flusher.prepare_counting(prepared date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition_name text := 'sessions_' || to_char(prepared, 'YYYY_MM');
BEGIN
    EXECUTE format('CREATE INDEX %I ON flusher.%I (created_at)',
        partition_name || '_created_at', partition_name);
    EXECUTE format('CREATE TRIGGER emptied AFTER TRUNCATE ON flusher.%I '
        'FOR EACH STATEMENT EXECUTE FUNCTION flusher.note_truncation()', partition_name);
    INSERT INTO flusher.counted_months (month) VALUES (prepared);
END
$$;
COMMENT ON FUNCTION flusher.prepare_counting IS 'Gives a month''s partition what counting it takes.';

CREATE OR REPLACE FUNCTION flusher.create_month(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition_name text := 'sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    IF wanted <> date_trunc('month', wanted)::date THEN
        RAISE EXCEPTION '% is not the first day of a month', wanted;
    END IF;
    -- One at a time: two flushers may find the same month missing.
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    IF to_regclass(format('flusher.%I', partition_name)) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Its counts are final: what came now would be in no count, or in two.
    IF EXISTS (SELECT FROM flusher.counted_months WHERE month = wanted AND dropped_at IS NOT NULL)
    THEN
        RAISE EXCEPTION 'the sessions of % were dropped', to_char(wanted, 'YYYY-MM')
            USING ERRCODE = 'check_violation';
    END IF;
    -- Made apart and attached afterwards: attaching does not wait for who reads or writes.
    EXECUTE format(
        'CREATE TABLE flusher.%I (LIKE public.sessions INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
        'INCLUDING COMMENTS)',
        partition_name
    );
    EXECUTE format(
        'COMMENT ON TABLE flusher.%I IS %L', partition_name,
        'The sessions of ' || to_char(wanted, 'YYYY-MM') || ': read them through the table sessions.'
    );
    PERFORM flusher.prepare_counting(wanted);
    EXECUTE format(
        'ALTER TABLE public.sessions ATTACH PARTITION flusher.%I FOR VALUES IN (%L)',
        partition_name, wanted
    );
END
$$;

-- The months that are there already.
SELECT flusher.prepare_counting(to_date(right(c.relname, 7), 'YYYY_MM'))
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'public.sessions'::regclass
ORDER BY c.relname;
