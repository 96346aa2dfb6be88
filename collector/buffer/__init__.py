"""Writes records to the streams."""
