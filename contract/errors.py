"""The exceptions. Each is named for the action that it requires, not for its origin.

Each process handles them in one place: the collector turns them into HTTP answers
(`collector/http/answering.py`), the flusher decides about a batch (`flusher/worker.py`), and a
command turns them into its exit code (`runtime/command.py`).
"""


class Misconfigured(Exception):
    """A setting or an argument is missing or wrong: say so in one line and exit with 2."""

    def __init__(self, setting: str, problem: str, example: str) -> None:
        super().__init__(f"{setting}: {problem} (for example: {example})")


class Reject(Exception):
    """The request is wrong, and repeating it would not help: answer 4xx, store nothing."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        """`status`: 400 to 499. `reason`: the metric label, a fixed word.
        `detail`: a sentence for the caller that says what to do differently.
        """
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class Ignore(Exception):
    """The request is valid but must not be counted (a crawler's): answer 204, store nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _CountedError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        """`reason`: the metric label, a fixed word.
        `detail`: a sentence for the operator, which never quotes a request or a record.
        """
        super().__init__(detail)
        self.reason = reason


class Retry(_CountedError):
    """A server is away, full or busy. The request is valid: try it again later."""


class NotAdmitted(Retry):
    """A server refuses the user, the password or the database of a setting: a command says so and
    exits with 2. A process tries again, because the server may be what is corrected.
    """


class TimedOut(Retry):
    """It took longer than allowed: too much at once, or the server is slow. Try a smaller part."""


class ClocksDisagree(Retry):
    """Two clocks contradict each other, and the action would be wrong by one of them: change
    nothing and log it, until an operator has corrected the clock.
    """

    def __init__(self, detail: str) -> None:
        super().__init__("clocks", detail)


class DeadLetter(_CountedError):
    """A stream entry can never become a row: move it to the dead letters, with the reason."""


class NewerVersion(DeadLetter):
    """A newer collector wrote this entry, in the next version of the record: leave it pending for
    the flushers of the next release.
    """
