-- The table that analysts read, and what the flusher needs beside it.
--
-- Partitions and everything that is not for readers live in the schema `flusher`, which the reader
-- role can't enter: Metabase shows one table and two views.

CREATE SCHEMA flusher;

CREATE TABLE sessions (
    id uuid NOT NULL,
    month date NOT NULL,
    site text NOT NULL CHECK (site <> '' AND length(site) <= 253),
    monthly_user_hash uuid NOT NULL,
    highest_role text CHECK (highest_role <> ''),
    created_at timestamptz NOT NULL,
    upgraded_at timestamptz,
    PRIMARY KEY (id, month),
    CONSTRAINT an_upgraded_session_has_a_role CHECK (upgraded_at IS NULL OR highest_role IS NOT NULL)
)
PARTITION BY LIST (month);

COMMENT ON TABLE sessions IS
    'One row for each session: each time somebody opened the platform. Crawlers are not in it. '
    'It tells how many people a site reached in a calendar month and never who they were. '
    'Count people by counting distinct monthly_user_hash within one month and one site.';
COMMENT ON COLUMN sessions.id IS
    'The session. Made by the browser for this one launch, and used nowhere else.';
COMMENT ON COLUMN sessions.month IS
    'The calendar month that the session counts in, as its first day. Group by this column: it is '
    'the month in which monthly_user_hash means one person.';
COMMENT ON COLUMN sessions.site IS
    'The host name of the site that was visited, in lower case.';
COMMENT ON COLUMN sessions.monthly_user_hash IS
    'Stands for one person on one site in one month. The same person has another one next month '
    'and on another site, and it can''t be traced back: the salt that made it was destroyed when '
    'the month ended. Behind one shared address, several people with the same browser look like one.';
COMMENT ON COLUMN sessions.highest_role IS
    'Empty: a visitor who did not sign in. Otherwise the highest role of the signed-in user, such '
    'as user, admin or super_admin.';
COMMENT ON COLUMN sessions.created_at IS
    'When the session began.';
COMMENT ON COLUMN sessions.upgraded_at IS
    'When the visitor signed in or registered during the session. Empty for a visitor who did not, '
    'and for a user who was signed in from the start.';

-- Settings that views need. One row, kept in step with the processes' by `migrate`.
CREATE TABLE flusher.calendar (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    timezone text NOT NULL
);
COMMENT ON TABLE flusher.calendar IS 'Whose calendar days and months count (CALENDAR_TIMEZONE).';
COMMENT ON COLUMN flusher.calendar.only_row IS 'Keeps the table to one row.';
COMMENT ON COLUMN flusher.calendar.timezone IS 'A name of the IANA time zone database.';
INSERT INTO flusher.calendar (timezone) VALUES ('UTC');

-- Upgrades: those that wait for their session, and for a while those that were applied, so that a
-- repeat is known and events that come late end in the same rows as if they had come in order.
CREATE TABLE flusher.upgrades (
    id uuid PRIMARY KEY,
    session_id uuid,
    visitor_hash uuid,
    month date NOT NULL,
    site text NOT NULL,
    user_hash uuid NOT NULL,
    highest_role text NOT NULL,
    upgraded_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    outcome text NOT NULL DEFAULT 'waiting' CHECK (outcome IN ('waiting', 'applied', 'superseded')),
    applied_to uuid,
    replaced_hash uuid,
    CONSTRAINT by_id_or_current CHECK ((session_id IS NULL) <> (visitor_hash IS NULL)),
    CONSTRAINT applied_to_a_session CHECK ((outcome = 'applied') = (applied_to IS NOT NULL))
);
COMMENT ON TABLE flusher.upgrades IS
    'Sign-ins that were reported for a session. Kept for as long as they may still matter.';
COMMENT ON COLUMN flusher.upgrades.id IS 'The upgrade itself: a repeat has the same.';
COMMENT ON COLUMN flusher.upgrades.session_id IS
    'The session that it names; empty for `current`, which names a visitor.';
COMMENT ON COLUMN flusher.upgrades.visitor_hash IS
    'For `current`: who the caller was before signing in.';
COMMENT ON COLUMN flusher.upgrades.month IS 'The month whose salt made its hashes.';
COMMENT ON COLUMN flusher.upgrades.site IS 'The site that it came from.';
COMMENT ON COLUMN flusher.upgrades.user_hash IS 'The monthly_user_hash of the user who signed in.';
COMMENT ON COLUMN flusher.upgrades.highest_role IS 'The role of the user who signed in.';
COMMENT ON COLUMN flusher.upgrades.upgraded_at IS 'When the request arrived.';
COMMENT ON COLUMN flusher.upgrades.stored_at IS 'When it was stored here.';
COMMENT ON COLUMN flusher.upgrades.outcome IS
    'waiting: its session has not come; applied: it upgraded one; superseded: its session had '
    'been upgraded before, or was signed in from the start.';
COMMENT ON COLUMN flusher.upgrades.applied_to IS 'The session that it upgraded.';
COMMENT ON COLUMN flusher.upgrades.replaced_hash IS
    'The visitor''s hash that it replaced there, so that it can be undone.';

CREATE INDEX upgrades_by_session ON flusher.upgrades (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX upgrades_waiting ON flusher.upgrades (session_id) WHERE outcome = 'waiting';
CREATE INDEX upgrades_of_current ON flusher.upgrades (visitor_hash) WHERE visitor_hash IS NOT NULL;
CREATE INDEX upgrades_by_replaced_hash ON flusher.upgrades (replaced_hash)
    WHERE replaced_hash IS NOT NULL;
CREATE INDEX upgrades_by_applied_to ON flusher.upgrades (applied_to)
    WHERE applied_to IS NOT NULL;
CREATE INDEX upgrades_by_age ON flusher.upgrades (stored_at);

CREATE VIEW monthly_impact AS
SELECT
    month,
    site,
    count(*) AS sessions,
    count(DISTINCT monthly_user_hash) AS unique_users,
    count(*) FILTER (WHERE highest_role IS NOT NULL) AS signed_in_sessions,
    count(DISTINCT monthly_user_hash) FILTER (WHERE highest_role IS NOT NULL)
        AS unique_signed_in_users,
    count(*) FILTER (WHERE highest_role IS NULL) AS visitor_sessions,
    count(DISTINCT monthly_user_hash) FILTER (WHERE highest_role IS NULL) AS unique_visitors
FROM sessions
GROUP BY month, site;

COMMENT ON VIEW monthly_impact IS
    'How many people each site reached in each calendar month. People can''t be added up over '
    'months or sites: the same person counts once in each. Sessions can.';
COMMENT ON COLUMN monthly_impact.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN monthly_impact.site IS 'The host name of the site.';
COMMENT ON COLUMN monthly_impact.sessions IS
    'How often the site was opened: signed_in_sessions plus visitor_sessions.';
COMMENT ON COLUMN monthly_impact.unique_users IS
    'How many different people opened the site, signed in or not.';
COMMENT ON COLUMN monthly_impact.signed_in_sessions IS 'Sessions in which somebody was or got signed in.';
COMMENT ON COLUMN monthly_impact.unique_signed_in_users IS 'How many different users were signed in.';
COMMENT ON COLUMN monthly_impact.visitor_sessions IS 'Sessions in which nobody signed in.';
COMMENT ON COLUMN monthly_impact.unique_visitors IS
    'How many different visitors did not sign in. Somebody who came once without and once with '
    'signing in is one of these and one of unique_signed_in_users.';

CREATE VIEW daily_impact AS
SELECT
    (sessions.created_at AT TIME ZONE calendar.timezone)::date AS day,
    sessions.site,
    count(*) AS sessions,
    count(*) FILTER (WHERE sessions.highest_role IS NOT NULL) AS signed_in_sessions,
    count(*) FILTER (WHERE sessions.highest_role IS NULL) AS visitor_sessions
FROM sessions
CROSS JOIN flusher.calendar
GROUP BY day, sessions.site;

COMMENT ON VIEW daily_impact IS
    'How often each site was opened on each calendar day of the service''s time zone. People are '
    'counted by month only: see monthly_impact.';
COMMENT ON COLUMN daily_impact.day IS 'The calendar day.';
COMMENT ON COLUMN daily_impact.site IS 'The host name of the site.';
COMMENT ON COLUMN daily_impact.sessions IS
    'How often the site was opened: signed_in_sessions plus visitor_sessions.';
COMMENT ON COLUMN daily_impact.signed_in_sessions IS 'Sessions in which somebody was or got signed in.';
COMMENT ON COLUMN daily_impact.visitor_sessions IS 'Sessions in which nobody signed in.';

-- A month's partition, made before it is needed. Runs with its owner's rights, so that a flusher
-- may make partitions without owning the table.
CREATE FUNCTION flusher.create_month(wanted date) RETURNS void
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
    EXECUTE format(
        'ALTER TABLE public.sessions ATTACH PARTITION flusher.%I FOR VALUES IN (%L)',
        partition_name, wanted
    );
END
$$;
COMMENT ON FUNCTION flusher.create_month IS 'Creates the partition of a month, unless it is there.';

-- An upgrade of `current` looks a visitor up by hash. That takes an index which makes a partition
-- three times as dear to write (measured), so a month gets it when the first such upgrade comes.
CREATE FUNCTION flusher.index_visitors(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition_name text := 'sessions_' || to_char(wanted, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('flusher.create_month', 0));
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON flusher.%I (monthly_user_hash) '
        'WHERE highest_role IS NULL',
        partition_name || '_visitors', partition_name
    );
END
$$;
COMMENT ON FUNCTION flusher.index_visitors IS
    'Makes a month''s visitors quick to find, for upgrades of `current`.';
