"""The two ways this package fails: a server that didn't start, a command that can't go on."""


class ServerDidNotStart(Exception):
    """What did not start, why, and where its log is: one line."""


class PortTaken(ServerDidNotStart):
    """Another program listens on the server's port."""


class CannotRun(Exception):
    """What is wrong and what to do about it: one line, for the person at the terminal.

    `exit_status` is 2 for wrong usage or configuration and 1 otherwise.
    """

    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status
