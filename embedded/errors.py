"""The errors of this package. Each message is one line for the person at the terminal."""


class ServerDidNotStart(Exception):
    """Says which server did not start, why, and where its log is."""

    exit_status = 1


class CannotRun(Exception):
    """Says what is wrong, and what to do. `exit_status` is 2 for a wrong setting, otherwise 1."""

    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status
