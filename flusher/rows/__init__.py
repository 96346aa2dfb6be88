"""Entries into rows, and into changes of the counts. Pure."""
