-- Where a batch is staged when some of it may be there already.
CREATE TEMPORARY TABLE incoming_sessions (
    id uuid NOT NULL,
    month date NOT NULL,
    site text NOT NULL,
    monthly_user_hash uuid NOT NULL,
    highest_role text,
    created_at timestamptz NOT NULL
) ON COMMIT DROP
