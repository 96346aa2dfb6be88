"""The errors of this package. Each message is one line for the person at the terminal."""


class ServerDidNotStart(Exception):
    """Says which server did not start, why, and where its log is."""


class CannotRun(Exception):
    """Says what is wrong, and what to do."""
