-- Where a batch is staged when some of its sessions may be stored already.
CREATE TEMPORARY TABLE incoming_sessions (LIKE sessions) ON COMMIT DROP
