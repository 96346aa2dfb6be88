CREATE TABLE flusher.upgrades (
    id uuid PRIMARY KEY, -- the upgrade itself: a repeat has the same
    session_id uuid,
    visitor_hash uuid, -- for `current`: who the caller was before signing in
    month date NOT NULL, -- whose salt made its hashes
    site text NOT NULL,
    user_hash uuid, -- the monthly_user_hash of the user who signed in
    session_month date, -- of the session that it names, once that is there
    highest_role text NOT NULL,
    upgraded_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    -- waiting: its session has not come; applied: it upgraded one; superseded: it changes nothing, since
    -- its session was upgraded before or signed in from the start, or it repeats another.
    outcome text NOT NULL DEFAULT 'waiting' CHECK (outcome IN ('waiting', 'applied', 'superseded')),
    applied_to uuid,
    replaced_hash uuid, -- the visitor's, in the session that it was applied to, so that it can be undone
    CONSTRAINT by_id_or_current CHECK ((session_id IS NULL) <> (visitor_hash IS NULL)),
    CONSTRAINT decided_by_its_session CHECK (session_id IS NULL OR outcome = 'waiting' OR session_month IS NOT NULL),
    -- It would tell which user of this month was which visitor of an earlier one.
    CONSTRAINT no_link_across_months CHECK ((user_hash IS NULL) = (session_month IS NOT NULL AND session_month < month)),
    CONSTRAINT applied_to_a_session CHECK ((outcome = 'applied') = (applied_to IS NOT NULL))
);
COMMENT ON TABLE flusher.upgrades IS
    'Sign-ins that were reported for a session: those that wait for it, and for a while those that were applied, '
    'so that a repeat is known and events that come late end in the same rows as if they had come in order.';

-- A session's: those that name it, and one of `current` that took it.
CREATE INDEX upgrades_by_session ON flusher.upgrades ((coalesce(session_id, applied_to)));
CREATE INDEX upgrades_waiting ON flusher.upgrades (session_id) WHERE outcome = 'waiting';
CREATE INDEX upgrades_of_current ON flusher.upgrades (visitor_hash, upgraded_at) WHERE visitor_hash IS NOT NULL;
CREATE INDEX upgrades_by_replaced_hash ON flusher.upgrades (replaced_hash, upgraded_at) WHERE replaced_hash IS NOT NULL;
CREATE INDEX upgrades_by_visitor_and_user ON flusher.upgrades (replaced_hash, user_hash) WHERE replaced_hash IS NOT NULL;
CREATE INDEX upgrades_by_age ON flusher.upgrades (stored_at);

CREATE TABLE flusher.upgrades_given_up (
    month date, -- of the sign-in
    site text,
    upgrades bigint NOT NULL,
    PRIMARY KEY (month, site)
);
COMMENT ON TABLE flusher.upgrades_given_up IS
    'How many sign-ins were reported for a session that never came: they are in no count.';

CREATE TABLE flusher.sign_ins (
    month date,
    site text,
    pairs bigint NOT NULL, -- of a visitor's hash and a user's: not how often
    users bigint NOT NULL,
    visitors bigint NOT NULL,
    PRIMARY KEY (month, site)
);
COMMENT ON TABLE flusher.sign_ins IS
    'How many users signed in, from how many visitors'' hashes, and how many of these belong together: docs/who-counts.md.';

CREATE TABLE flusher.sign_in_digests (
    month date,
    digest uuid, -- keyed by the month's salt: contract/identity.py
    site text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('pair', 'user', 'visitor')),
    PRIMARY KEY (month, digest)
);
COMMENT ON TABLE flusher.sign_in_digests IS 'What flusher.sign_ins has counted already, until the month is closed.';
