"""How long a request may wait for Redis before it is answered 503."""

WAIT_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5
