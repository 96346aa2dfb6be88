"""What several files start and end for each of their tests."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is entered in it ends with the test."""
    with ExitStack() as stack:
        yield stack
