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
