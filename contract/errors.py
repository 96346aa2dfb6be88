"""The decisions that an error can ask for.

An exception is named for what is to be done about it, not for where it came from. Each process
maps these to answers in one place: the collector to HTTP answers (`collector/http/answers.py`), the
flusher to what becomes of a batch (`flusher/worker.py`), every command to its exit code
(`runtime/command.py`).
"""


class Misconfigured(Exception):
    """A setting or an argument is missing or wrong: say so in one line and exit with 2."""

    def __init__(self, setting: str, problem: str, example: str) -> None:
        super().__init__(f"{setting}: {problem} (for example: {example})")
        self.setting = setting


class Reject(Exception):
    """The caller's request is wrong and will not get better: answer 4xx, store nothing."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        """What the caller is told, and what is counted.

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
    """A request that is right but is not to be counted (a crawler's): answer 204, store nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):
    """A server is away, full or busy: nothing is wrong with the request, try it again later."""

    def __init__(self, reason: str, detail: str) -> None:
        """What is counted, and what the operator is told.

        Args:
            reason: the metric label, a fixed word.
            detail: a sentence for the operator.
        """
        super().__init__(detail)
        self.reason = reason


class TimedOut(Retry):
    """It took longer than it may: it is too much at once, or the server is slow. Try less of it."""


class ClocksDisagree(Retry):
    """Two clocks contradict each other, and what was asked for would be wrong by one of them: leave
    all as it is and say so, until an operator has mended the clock.
    """

    def __init__(self, detail: str) -> None:
        """`detail`: a sentence for the operator."""
        super().__init__("clocks", detail)


class DeadLetter(Exception):
    """A stream entry can never become a row: set it aside, with the reason, and go on."""

    def __init__(self, reason: str, detail: str) -> None:
        """What is counted, and what the operator is told.

        Args:
            reason: the metric label, a fixed word.
            detail: what is wrong with it, without quoting what it holds.
        """
        super().__init__(detail)
        self.reason = reason


class NewerVersion(DeadLetter):
    """A stream entry of the record's next version: a newer collector runs beside an older flusher.

    It stays pending, for the flushers of the next release.
    """
