"""Standard output, which may be closed while we run."""

import os
import sys


class Terminal:
    """Writes to standard output until that fails, and then to nothing.

    The servers must be stopped cleanly even if the terminal is closed, or a reader ends
    (`make run | head`).
    """

    def write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            # Otherwise the rest of the buffer would fail again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    def flush(self) -> None:
        """Does nothing: `write` flushes."""

    def isatty(self) -> bool:
        return sys.stdout.isatty()

    def say(self, line: str) -> None:
        self.write(line + "\n")
