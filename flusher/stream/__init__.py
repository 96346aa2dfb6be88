"""Out of Redis: reads entries, acknowledges them, or makes dead letters of them."""
