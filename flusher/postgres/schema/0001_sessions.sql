-- The table that analysts read, and its months. Partitions and everything that is not for readers live
-- in the schema `flusher`, which the reader role can't enter: Metabase shows one table and the views.

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

-- A person's sessions, signed in or not, in the order in which they began: how often somebody came
-- (sql/count_changes.sql), and which session `current` means (sql/sessions_to_decide.sql).
CREATE INDEX sessions_of_person ON public.sessions (monthly_user_hash, highest_role, created_at);

COMMENT ON TABLE public.sessions IS
    'One row for each session: each time somebody opened the platform. Crawlers are not in it. '
    'It tells how many people a site reached in a calendar month and never who they were. '
    'Count people by counting distinct monthly_user_hash within one month and one site.';
COMMENT ON COLUMN public.sessions.id IS
    'The session. Made by the browser for this one launch; a new random one once its month is closed.';
COMMENT ON COLUMN public.sessions.month IS
    'The calendar month that the session counts in, as its first day. Group by this column: it is '
    'the month in which monthly_user_hash means one person.';
COMMENT ON COLUMN public.sessions.site IS 'The host name of the site that was visited, in lower case.';
COMMENT ON COLUMN public.sessions.monthly_user_hash IS
    'Stands for one person on one site in one month. The same person has another one next month '
    'and on another site, and it can''t be traced back: the salt that made it was destroyed when '
    'the month ended. Behind one shared address, several people with the same browser look like one.';
COMMENT ON COLUMN public.sessions.highest_role IS
    'Empty: a visitor who did not sign in. Otherwise the highest role of the signed-in user, such '
    'as user, admin or super_admin.';
COMMENT ON COLUMN public.sessions.created_at IS 'When the session began; the hour of it, once its month is closed.';
COMMENT ON COLUMN public.sessions.upgraded_at IS
    'When the visitor signed in or registered during the session. Empty for a visitor who did not, '
    'and for a user who was signed in from the start.';

CREATE TABLE flusher.calendar (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    timezone text NOT NULL -- a name of the IANA time zone database
);
COMMENT ON TABLE flusher.calendar IS 'Whose calendar counts: `migrate` keeps it in step with CALENDAR_TIMEZONE.';
INSERT INTO flusher.calendar (timezone) VALUES ('UTC');

CREATE TABLE flusher.months (
    month date PRIMARY KEY CHECK (month = date_trunc('month', month)::date),
    closed_at timestamptz, -- when it had been over for days, and nothing of it was on its way
    kept text CHECK (kept IN ('hour', 'day')), -- how fine its sessions' times are; null: some are as they came
    dropped_at timestamptz CHECK (dropped_at IS NULL OR closed_at IS NOT NULL) -- its sessions went
);
COMMENT ON TABLE flusher.months IS 'What became of each month: open, then closed, then perhaps dropped.';

CREATE TABLE flusher.salts (
    id uuid PRIMARY KEY, -- the event: a repeat has the same
    month date NOT NULL,
    -- rotated: the month had begun; first: none was recorded before; lost: the month's salt had
    -- vanished; replaced: an operator asked for it.
    outcome text NOT NULL,
    made_at timestamptz NOT NULL -- by the clock of the salt's server
);
COMMENT ON TABLE flusher.salts IS
    'When each month got its salt. More than one in a month: who came before the later one, and '
    'came again after it, is counted twice in that month. The salts themselves are never here.';
