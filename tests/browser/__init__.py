"""The beacon in real Chromium, against the real collector."""
