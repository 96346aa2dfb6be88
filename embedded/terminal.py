"""Standard output that may go away under us."""

import os
import sys


class Terminal:
    """Writes to standard output until that fails, then to nowhere.

    A closed terminal or a reader that left (`make run | head`) must not keep us from stopping the
    servers in order.
    """

    def write(self, text: str) -> None:
        """Write and flush `text`."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            # What is still buffered would fail again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    def flush(self) -> None:
        """Nothing: every write is flushed."""

    def isatty(self) -> bool:
        """Whether a person reads it, in colour perhaps."""
        return sys.stdout.isatty()

    def say(self, line: str) -> None:
        """Write one line."""
        self.write(line + "\n")
