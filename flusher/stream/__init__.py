"""Out of Redis: entries are read, acknowledged, or set aside."""
