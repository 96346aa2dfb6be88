"""A monotonic clock for what is given one."""


class Steady:
    """It moves only when a test moves it."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds
