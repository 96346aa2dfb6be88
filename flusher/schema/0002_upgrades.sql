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
    'waiting: its session has not come; applied: it upgraded one; superseded: it changes nothing, '
    'since its session was upgraded before or signed in from the start, or it repeats another.';
COMMENT ON COLUMN flusher.upgrades.applied_to IS 'The session that it upgraded.';
COMMENT ON COLUMN flusher.upgrades.replaced_hash IS
    'The visitor''s hash that it replaced there, so that it can be undone.';

CREATE INDEX upgrades_by_session ON flusher.upgrades (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX upgrades_waiting ON flusher.upgrades (session_id) WHERE outcome = 'waiting';
CREATE INDEX upgrades_of_current ON flusher.upgrades (visitor_hash, upgraded_at)
    WHERE visitor_hash IS NOT NULL;
CREATE INDEX upgrades_of_current_by_applied_to ON flusher.upgrades (applied_to)
    WHERE session_id IS NULL AND applied_to IS NOT NULL;
CREATE INDEX upgrades_by_age ON flusher.upgrades (stored_at);

-- Upgrades that were given up are forgotten; how many there were is not, since the report shows it.
CREATE TABLE flusher.upgrades_given_up (
    month date NOT NULL,
    site text NOT NULL,
    upgrades bigint NOT NULL,
    PRIMARY KEY (month, site)
);
COMMENT ON TABLE flusher.upgrades_given_up IS
    'How many sign-ins were reported for a session that never came: they are in no count.';
COMMENT ON COLUMN flusher.upgrades_given_up.month IS 'The month of the sign-in, as its first day.';
COMMENT ON COLUMN flusher.upgrades_given_up.site IS 'The host name of the site.';
COMMENT ON COLUMN flusher.upgrades_given_up.upgrades IS 'How many.';
