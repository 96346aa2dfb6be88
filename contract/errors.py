"""The decisions that an error can ask for.

An exception is named for the action that it requires, not for its origin. Each process
handles these in one place: the collector makes HTTP answers of them (`collector/http/answers.py`),
the flusher decides about a batch (`flusher/worker.py`), a command turns them into its exit code
(`runtime/command.py`).
"""


class Misconfigured(Exception):
    """A setting or an argument is missing or wrong: say so in one line and exit with 2."""

    def __init__(self, setting: str, problem: str, example: str) -> None:
        super().__init__(f"{setting}: {problem} (for example: {example})")
        self.setting = setting


class Reject(Exception):
    """The request is wrong, and repeating it would not help: answer 4xx, store nothing."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        """What the answer says, and what is counted.

        Args:
            status: the HTTP status, 400 to 499.
            reason: the metric label, a fixed word that never quotes the request.
            detail: a sentence for the caller that says what to do differently.
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


class Retry(Exception):
    """A server is away, full or busy. The request is valid: try it again later."""

    def __init__(self, reason: str, detail: str) -> None:
        """What is counted, and what the log says.

        Args:
            reason: the metric label, a fixed word.
            detail: a sentence for the operator.
        """
        super().__init__(detail)
        self.reason = reason


class TimedOut(Retry):
    """It took longer than allowed: too much at once, or the server is slow. Try a smaller part."""


class ClocksDisagree(Retry):
    """Two clocks contradict each other, and the action would be wrong by one of them: change
    nothing and log it, until an operator has corrected the clock.
    """

    def __init__(self, detail: str) -> None:
        """`detail`: a sentence for the operator."""
        super().__init__("clocks", detail)


class DeadLetter(Exception):
    """A stream entry can never become a row: move it to the dead letters, with the reason."""

    def __init__(self, reason: str, detail: str) -> None:
        """What is counted, and what the log says.

        Args:
            reason: the metric label, a fixed word.
            detail: what is wrong with it, without quoting its content.
        """
        super().__init__(detail)
        self.reason = reason


class NewerVersion(DeadLetter):
    """A stream entry of the record's next version: a newer collector runs beside an older flusher.

    It stays pending, for the flushers of the next release.
    """
