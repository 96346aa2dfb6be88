"""`python -m collector`: receives sessions from front-ends until it is asked to stop."""

import argparse
import os
import sys

from collector.process import serve
from runtime.clock import wall_clock
from runtime.command import add_version, run_process


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m collector",
        description="Receives sessions from front-ends and buffers them in Redis. "
        "Every setting comes from the environment (see docs/settings.md).",
    )
    add_version(parser)
    parser.parse_args()
    return run_process("collector", serve, os.environ, wall_clock)


if __name__ == "__main__":
    sys.exit(main())
