"""Simulated months, in which both people and our count are known."""
