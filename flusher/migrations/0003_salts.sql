-- When each month's salt was made, so that reports can show where a month's count is affected.
CREATE TABLE flusher.salts (
    id uuid PRIMARY KEY,
    month date NOT NULL,
    outcome text NOT NULL,
    made_at timestamptz NOT NULL
);
COMMENT ON TABLE flusher.salts IS
    'When each month got its salt. More than one in a month: who came before the later one, and '
    'came again after it, is counted twice in that month. The salts themselves are never here.';
COMMENT ON COLUMN flusher.salts.id IS 'The event: a repeat has the same.';
COMMENT ON COLUMN flusher.salts.month IS 'The month that the salt is of, as its first day.';
COMMENT ON COLUMN flusher.salts.outcome IS
    'rotated: the month had begun; first: none was recorded before; lost: the month''s salt had '
    'vanished; replaced: an operator asked for it.';
COMMENT ON COLUMN flusher.salts.made_at IS 'When it was made, by the clock of the salt''s server.';
