-- Where a batch is staged when some of it may be there already.
CREATE TEMPORARY TABLE incoming_sessions ON COMMIT DROP AS
SELECT id, month, site, monthly_user_hash, highest_role, created_at FROM sessions WITH NO DATA
