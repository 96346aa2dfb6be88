CREATE TABLE flusher.imports (
    run text CHECK (run ~ '^[0-9a-f]{12}$'), -- random for each run; the last six bytes of its sessions' ids
    month date,
    name text NOT NULL CHECK (name <> ''), -- `--name`: several runs may have the same
    sessions bigint NOT NULL,
    PRIMARY KEY (run, month)
);
COMMENT ON TABLE flusher.imports IS 'How many sessions of each month each run of an import has stored. An import is undone by its name.';
