"""What holds for every unit test."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A shared machine may pause a process for longer than any deadline, or while examples are made.
settings.register_profile(
    "unit", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")


@pytest.fixture(autouse=True, scope="module")
def _no_sockets() -> Iterator[None]:
    """A unit test that connects to anything fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a unit test opened a connection")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield
