-- How many sessions and people there are, so that no report has to count them from the sessions.
--
-- Whoever changes sessions adds what that changes to the counts, in the same transaction
-- (flusher/write.py). So the counts are exact at each commit.
--
--   people           how often each person came in an open month: shows who begins or ceases to count
--   count_changes    what each transaction changed: rows are only added, so no two writers wait here
--   monthly_counts,
--   daily_counts     the changes added up, moved here now and then (sql/fold_counts.sql)
--   recounts         where the counts no longer hold: the views count these from the sessions

CREATE TABLE flusher.people (
    month date NOT NULL,
    site text NOT NULL,
    monthly_user_hash uuid NOT NULL,
    visitor_sessions integer NOT NULL,
    signed_in_sessions integer NOT NULL,
    visitor_change integer NOT NULL,
    signed_in_change integer NOT NULL,
    PRIMARY KEY (monthly_user_hash, site, month)
)
PARTITION BY LIST (month);
COMMENT ON TABLE flusher.people IS
    'How often each person came in a month that is not closed. Dropped when it is.';
COMMENT ON COLUMN flusher.people.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.people.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.people.monthly_user_hash IS 'The person, as in sessions.';
COMMENT ON COLUMN flusher.people.visitor_sessions IS 'Sessions in which they did not sign in.';
COMMENT ON COLUMN flusher.people.signed_in_sessions IS 'Sessions in which they were or got signed in.';
COMMENT ON COLUMN flusher.people.visitor_change IS
    'By how much the last transaction changed visitor_sessions: tells it what was there before.';
COMMENT ON COLUMN flusher.people.signed_in_change IS 'The same of signed_in_sessions.';

CREATE TABLE flusher.count_changes (
    month date NOT NULL,
    day date NOT NULL,
    site text NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    unique_users bigint NOT NULL,
    unique_signed_in_users bigint NOT NULL,
    unique_visitors bigint NOT NULL
);
COMMENT ON TABLE flusher.count_changes IS 'What transactions changed, not added up yet.';
COMMENT ON COLUMN flusher.count_changes.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.count_changes.day IS
    'The calendar day of the sessions. People are counted by month: theirs is its first day.';
COMMENT ON COLUMN flusher.count_changes.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.count_changes.visitor_sessions IS 'How many more, or fewer.';
COMMENT ON COLUMN flusher.count_changes.signed_in_sessions IS 'How many more, or fewer.';
COMMENT ON COLUMN flusher.count_changes.unique_users IS 'How many more, or fewer.';
COMMENT ON COLUMN flusher.count_changes.unique_signed_in_users IS 'How many more, or fewer.';
COMMENT ON COLUMN flusher.count_changes.unique_visitors IS 'How many more, or fewer.';

CREATE TABLE flusher.monthly_counts (
    month date NOT NULL,
    site text NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    unique_users bigint NOT NULL,
    unique_signed_in_users bigint NOT NULL,
    unique_visitors bigint NOT NULL,
    PRIMARY KEY (month, site)
);
COMMENT ON TABLE flusher.monthly_counts IS 'What monthly_impact shows, but for count_changes.';
COMMENT ON COLUMN flusher.monthly_counts.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.monthly_counts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.monthly_counts.visitor_sessions IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.signed_in_sessions IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_users IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_signed_in_users IS 'As in monthly_impact.';
COMMENT ON COLUMN flusher.monthly_counts.unique_visitors IS 'As in monthly_impact.';

CREATE TABLE flusher.daily_counts (
    month date NOT NULL,
    day date NOT NULL,
    site text NOT NULL,
    visitor_sessions bigint NOT NULL,
    signed_in_sessions bigint NOT NULL,
    -- The site first, for a report of one site.
    PRIMARY KEY (site, day, month)
);
COMMENT ON TABLE flusher.daily_counts IS 'What daily_impact shows, but for count_changes.';
COMMENT ON COLUMN flusher.daily_counts.month IS
    'The month whose salt made the hash, which at a month''s end may not be the day''s.';
COMMENT ON COLUMN flusher.daily_counts.day IS 'The calendar day.';
COMMENT ON COLUMN flusher.daily_counts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.daily_counts.visitor_sessions IS 'As in daily_impact.';
COMMENT ON COLUMN flusher.daily_counts.signed_in_sessions IS 'As in daily_impact.';

CREATE TABLE flusher.recounts (
    month date NOT NULL,
    site text NOT NULL,
    wanted_at timestamptz NOT NULL,
    PRIMARY KEY (month, site)
);
COMMENT ON TABLE flusher.recounts IS
    'Where the counts no longer hold, and are to be made again from the sessions: a session came '
    'for a closed month, or another calendar counts.';
COMMENT ON COLUMN flusher.recounts.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN flusher.recounts.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.recounts.wanted_at IS 'Since when.';
