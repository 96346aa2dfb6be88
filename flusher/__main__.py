"""`python -m flusher`: the worker, and the commands for operators."""

import os
import sys

from flusher.arguments import make_parser
from flusher.process import work
from runtime.clock import wall_clock
from runtime.command import run_command, run_process


def main() -> int:
    arguments = make_parser().parse_args()
    if arguments.command is None:
        return run_process("flusher", work, os.environ, wall_clock)
    return run_command(arguments.run(os.environ, arguments, wall_clock))


if __name__ == "__main__":
    sys.exit(main())
