"""Pure tests: no sockets, no servers, no waiting."""
