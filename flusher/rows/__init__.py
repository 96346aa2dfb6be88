"""Entries into rows, and what changes the counts. Pure."""
