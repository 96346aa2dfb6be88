CREATE TABLE flusher.upgrades (
    id uuid PRIMARY KEY, -- the upgrade itself: a repeat has the same
    session_id uuid,
    visitor_hash uuid, -- for `current`: the caller's hash as a visitor
    month date NOT NULL, -- whose salt made its hashes
    site text NOT NULL,
    user_hash uuid, -- the monthly_user_hash of the user who signed in
    session_month date, -- the month of its session, when that is found
    highest_role text NOT NULL,
    upgraded_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    -- waiting: its session has not come; applied: it upgraded a session; superseded: it changes nothing, because
    -- its session was upgraded before or signed in from the start, or because it repeats another upgrade.
    outcome text NOT NULL DEFAULT 'waiting' CHECK (outcome IN ('waiting', 'applied', 'superseded')),
    applied_to uuid,
    replaced_hash uuid, -- the visitor's hash that the session had before, so that the upgrade can be undone
    CONSTRAINT by_id_or_current CHECK ((session_id IS NULL) <> (visitor_hash IS NULL)),
    CONSTRAINT decided_by_its_session CHECK (session_id IS NULL OR outcome = 'waiting' OR session_month IS NOT NULL),
    -- The hash would show which user of this month was which visitor of an earlier month.
    CONSTRAINT no_link_across_months CHECK ((user_hash IS NULL) = (session_month IS NOT NULL AND session_month < month)),
    CONSTRAINT applied_to_a_session CHECK ((outcome = 'applied') = (applied_to IS NOT NULL))
);
COMMENT ON TABLE flusher.upgrades IS
    'Sign-ins that wait for their session, and recent ones: so that repeats and late events lead to the same rows.';

-- By the session: upgrades by id, and an upgrade of `current` that took it.
CREATE INDEX upgrades_by_session ON flusher.upgrades ((coalesce(session_id, applied_to)));
CREATE INDEX upgrades_waiting ON flusher.upgrades (session_id) WHERE outcome = 'waiting';
CREATE INDEX upgrades_of_current ON flusher.upgrades (visitor_hash, upgraded_at) WHERE visitor_hash IS NOT NULL;
CREATE INDEX upgrades_by_replaced_hash ON flusher.upgrades (replaced_hash, upgraded_at) WHERE replaced_hash IS NOT NULL;
CREATE INDEX upgrades_by_visitor_and_user ON flusher.upgrades (replaced_hash, user_hash) WHERE replaced_hash IS NOT NULL;
CREATE INDEX upgrades_by_age ON flusher.upgrades (stored_at);
