-- The table that analysts read, and its months. Partitions, and everything that is not for analysts, are
-- in the schema `flusher`, which the reader role can't use. So Metabase shows one table and the views.

CREATE TABLE public.sessions (
    id uuid NOT NULL,
    month date NOT NULL,
    site text NOT NULL CHECK (site <> '' AND length(site) <= 253),
    monthly_user_hash uuid NOT NULL,
    highest_role text CHECK (highest_role <> ''),
    created_at timestamptz NOT NULL,
    upgraded_at timestamptz,
    PRIMARY KEY (id, month),
    CONSTRAINT an_upgraded_session_has_a_role CHECK (upgraded_at IS NULL OR highest_role IS NOT NULL)
) PARTITION BY LIST (month);

-- For counting people (sql/count_changes.sql) and for finding `current` (sql/sessions_to_decide.sql): a
-- person's sessions are neighbours, the signed-in ones first, and then in the order of time.
CREATE INDEX sessions_of_person ON public.sessions (monthly_user_hash, highest_role, created_at);

COMMENT ON TABLE public.sessions IS
    'One row for each session: each time a person opened the platform. Crawlers are not in it. '
    'It shows how many people a site reached in a calendar month, and never who they were. '
    'Count people by counting distinct monthly_user_hash within one month and one site.';
COMMENT ON COLUMN public.sessions.id IS
    'The session. The browser makes it for each launch. It is replaced by a random one when the month is closed.';
COMMENT ON COLUMN public.sessions.month IS
    'The calendar month that the session counts in, as its first day. Group by this column: within it one hash is one person.';
COMMENT ON COLUMN public.sessions.site IS 'The host name of the site that was visited, in lower case.';
COMMENT ON COLUMN public.sessions.monthly_user_hash IS
    'Stands for one person on one site in one month. The same person has another one next month '
    'and on another site, and it can''t be traced back: the salt that made it was destroyed when '
    'the month ended. Behind one shared address, several people with the same browser look like one.';
COMMENT ON COLUMN public.sessions.highest_role IS
    'Empty: a visitor who did not sign in. Otherwise the highest role of the user, such as user, admin or super_admin.';
COMMENT ON COLUMN public.sessions.created_at IS 'When the session began. Rounded to the hour when the month is closed.';
COMMENT ON COLUMN public.sessions.upgraded_at IS
    'When the visitor signed in or registered. Empty for a visitor who did not, and for a user who was signed in from the start.';

CREATE TABLE flusher.state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    timezone text NOT NULL, -- CALENDAR_TIMEZONE, as of the last `migrate`: a name of the IANA time zone database
    checked_at timestamptz -- when `python -m flusher check` last found all counts right
);
COMMENT ON TABLE flusher.state IS 'The time zone of months and days, and when the counts were last checked.';
INSERT INTO flusher.state (timezone) VALUES ('UTC');

CREATE TABLE flusher.months (
    month date PRIMARY KEY CHECK (month = date_trunc('month', month)::date),
    closed_at timestamptz, -- when it had been over for days, and nothing of it was pending
    kept text CHECK (kept IN ('hour', 'day')), -- what its sessions' times are rounded to; null: some are not rounded
    dropped_at timestamptz CHECK (dropped_at IS NULL OR closed_at IS NOT NULL) -- when its sessions were deleted
);
COMMENT ON TABLE flusher.months IS 'The state of each month: open, then closed, then perhaps dropped.';

CREATE TABLE flusher.salts (
    id uuid PRIMARY KEY, -- the event: a repeat has the same
    month date NOT NULL,
    -- rotated: the month had begun; first: no earlier salt was known; lost: the month's salt had
    -- vanished; replaced: an operator asked for it.
    outcome text NOT NULL,
    made_at timestamptz NOT NULL -- by the clock of the salt's server
);
COMMENT ON TABLE flusher.salts IS
    'When each month got its salt, and why; never the salt. People who came before and after a second one are counted twice.';
