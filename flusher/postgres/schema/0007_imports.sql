-- Which import stored how many sessions. Which ones they are, their ids say: the last six bytes of each are
-- its run's (flusher/imports/earlier_sessions.py).

CREATE TABLE flusher.imports (
    run text CHECK (run ~ '^[0-9a-f]{12}$'), -- by chance, one each time that an import is run
    month date,
    name text NOT NULL CHECK (name <> ''), -- `--name`: several runs may have one
    sessions bigint NOT NULL,
    PRIMARY KEY (run, month)
);
COMMENT ON TABLE flusher.imports IS 'How many sessions of each month every run of an import has stored, to be undone by its name.';
